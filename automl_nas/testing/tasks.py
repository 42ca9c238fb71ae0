"""Contract tests of tasks: `TaskContract`."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable

import torch
from torch import Tensor

from automl_nas.errors import UserError
from automl_nas.evaluation.task import SPLITS, Task
from automl_nas.testing.contract import require
from automl_nas.testing.devices import require_device
from automl_nas.testing.handed import require_json
from automl_nas.testing.task_base import BASIC, RANGES
from automl_nas.testing.task_batches import TaskBatches
from automl_nas.testing.task_samples import TaskSamples


class TaskContract(TaskBatches, TaskSamples):
    """The tests of a `Task`. Derive a class whose name begins with ``Test`` and implement `make_task`.

    Use a small task: every clause reads its data several times. The settings are those of `TaskUses`.
    """

    def test_describes_itself(self) -> None:
        """Shape, number of outputs and metrics are valid.

        Way out: `input_shape` is a tuple of integers, `metrics` a mapping such as ``{"accuracy": "maximize"}``.
        """
        task = self.make_task()
        shape = task.input_shape
        plain = isinstance(shape, tuple) and all(type(side) is int and side >= 1 for side in shape)
        require(plain, f"input_shape is {shape!r}")
        classes = task.num_classes
        require(classes is None or (type(classes) is int and classes >= 1), f"num_classes is {classes!r}")
        require(self.output_shape is not None or classes is not None, "set output_shape of the contract class")
        require(task.metrics, "a task needs at least one metric: the first one is the default objective")
        directions = set(task.metrics.values())
        require(directions <= {"maximize", "minimize"}, f"metrics have the directions {directions}")
        names = task.class_names
        require(names is None or len(set(names)) == classes, f"{classes} classes have the names {names}")
        preprocessing = task.preprocessing()
        if preprocessing is not None:
            require_json(preprocessing, "preprocessing()", 1_000_000)
            same = json.loads(json.dumps(preprocessing)) == preprocessing
            require(same, "preprocessing must be plain data: lists instead of tuples")
            if preprocessing.get("input") == "image":
                channels, height, width = task.input_shape
                size = preprocessing["size"]
                require(size == [height, width], f"preprocessing has the size {size}, inputs {task.input_shape}")
                sides = len(preprocessing["mean"]), len(preprocessing["std"])
                require(sides == (channels, channels), f"mean and std have {sides} numbers for {channels} channels")
        outputs = task.outputs()
        if outputs is not None:
            require_json(outputs, "outputs()", 1_000_000)

    def test_its_reader_reads_its_files(self) -> None:
        """If a task names its files, its reader makes the inputs of the network from them, also after pickling.

        Way out: `reader` returns a function or an object at the top level of a module that does what `score` does with
        a file.
        """
        task = self.make_task()
        read, files = task.reader(), task.files("test")
        if read is None or files is None:
            return
        again = pickle.loads(pickle.dumps(read))  # noqa: S301 - our own bytes
        inputs = self._scored_inputs(task, "test")
        require(len(files) == len(inputs), f"{len(inputs)} samples have {len(files)} files")
        for file, expected in zip(files[:5], inputs, strict=False):
            require(torch.equal(read(file), expected), f"the reader makes other inputs of {file}")
            require(torch.equal(again(file), expected), "a reader that was pickled makes other inputs")

    def test_sizes_add_up(self) -> None:
        """Every basic split has samples, and train+search has those of both.

        Way out: `size` returns the number of indices of the split.
        """
        task = self.make_task()
        sizes = {split: task.size(split) for split in SPLITS}
        require(all(type(size) is int and size >= 0 for size in sizes.values()), f"sizes are {sizes}")
        require(all(sizes[split] >= 1 for split in BASIC), f"sizes are {sizes}")
        require(sizes["train+search"] == sizes["train"] + sizes["search"], f"sizes are {sizes}")

    def test_the_fingerprint_is_a_function_of_the_data(self) -> None:
        """Two tasks of the same data have the same fingerprint: text, or None where it is not known.

        Way out: hash the bytes of the data with `hashlib`, not the paths, times or `hash()`.
        """
        task, again = self.make_task(), self.make_task()
        fingerprint = task.fingerprint()
        plain = fingerprint is None or (type(fingerprint) is str and 0 < len(fingerprint) <= 1000)
        require(plain, f"the fingerprint is {fingerprint!r:.100}")
        require(fingerprint == again.fingerprint(), "two tasks have different fingerprints")

    def test_an_unknown_split_is_a_user_error(self) -> None:
        """The call raises a `UserError`, before a batch is read, and the message offers the nearest split.

        Way out: look the split up before anything else, and raise `DataError` with `did_you_mean(split, SPLITS)`.
        """
        task = self.make_task()
        calls: dict[str, Callable[[], object]] = {
            "size": lambda: task.size("trian"),
            "batches_per_epoch": lambda: task.batches_per_epoch("trian"),
            "batches": lambda: next(task.batches("trian", 0, 0)),
            "score": lambda: task.score(self._predictor(task), "trian"),
        }
        for name, call in calls.items():
            try:
                call()
            except UserError as error:
                require("train" in str(error), f"{name}: the error does not offer 'train': {error}")
            else:
                raise AssertionError(f"{name} accepts the split 'trian'")

    def test_loss_is_a_differentiable_scalar(self) -> None:
        """Its gradient is finite, and not zero for random outputs; it is a function of outputs and targets alone.

        Way out: return the tensor, not `.item()`; do not detach; keep nothing from call to call.
        """
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        outputs = self._outputs(task, len(targets)).requires_grad_()
        before = outputs.detach().clone(), targets.clone()
        loss = task.loss(outputs, targets)
        require(isinstance(loss, Tensor) and loss.dim() == 0, f"the loss is {loss!r:.80}")
        require(bool(torch.isfinite(loss)), f"the loss is {loss}")
        require(loss.requires_grad, "the loss has no gradient")
        (gradient,) = torch.autograd.grad(loss, outputs)
        require(bool(torch.isfinite(gradient).all()), "the gradient is not finite")
        require(bool((gradient != 0).any()), "the gradient is zero")
        same = torch.equal(outputs.detach(), before[0]) and torch.equal(targets, before[1])
        require(same, "the loss changed outputs or targets")
        again = task.loss(outputs, targets)
        require(torch.equal(again, loss), f"the loss is {float(loss.detach())}, and then {float(again.detach())}")

    def test_the_loss_is_computed_on_the_device_of_the_outputs(self) -> None:
        """Outputs and targets on another device meet no tensor on the CPU (checked on torch's device ``meta``).

        Way out: move what the task keeps, such as weights of classes: `self.weights.to(outputs.device)`.
        """
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        require_device(task.loss, self._outputs(task, len(targets)), targets)

    def test_loss_falls_along_its_gradient(self) -> None:
        """A small step against the gradient reduces the loss.

        Way out: the loss is what is minimised: a score that is better when it is larger needs a minus.
        """
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        outputs = self._outputs(task, len(targets)).double().requires_grad_()
        try:
            loss = task.loss(outputs, targets)
        except RuntimeError:  # a loss of float32 targets
            outputs = outputs.detach().float().requires_grad_()
            loss = task.loss(outputs, targets)
        (gradient,) = torch.autograd.grad(loss, outputs)
        smaller = task.loss((outputs - 1e-2 * gradient / gradient.norm()).detach(), targets)
        values = float(loss.detach()), float(smaller.detach())
        require(values[1] < values[0], f"the loss is {values[0]}, after a step against its gradient {values[1]}")

    def test_loss_is_a_mean(self) -> None:
        """A batch that is repeated twice has the same loss, up to rounding.

        Way out: ``reduction="mean"``.
        """
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        outputs = self._outputs(task, len(targets))
        once = task.loss(outputs, targets)
        twice = task.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
        # Two float32 sums over at most a few thousand terms, in different orders.
        torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-6)

    def test_score_shows_every_sample_once_and_returns_the_metrics(self) -> None:
        """The network is called with size(split) inputs of input_shape, as in batches; the metrics are plain numbers.

        Way out: run the network over all samples in order, also over a smaller last batch, and return
        `{name: float(value)}` for all names of `metrics`.
        """
        task = self.make_task()
        for split in SPLITS:
            inputs = self._scored_inputs(task, split)
            require(
                len(inputs) == task.size(split), f"{split} has {task.size(split)} samples, scored are {len(inputs)}"
            )
            shape = tuple(inputs.shape[1:])
            require(shape == task.input_shape, f"scored inputs of {split} have the shape {shape}")
            dtype = torch.int64 if self.integers else torch.float32
            require(inputs.dtype == dtype, f"scored inputs of {split} are {inputs.dtype}, not {dtype}")
            scores = task.score(self._predictor(task), split)
            require(
                set(scores) == set(task.metrics), f"score returns {sorted(scores)}, metrics are {sorted(task.metrics)}"
            )
            for name, value in scores.items():
                require(type(value) in (int, float), f"{name} is {value!r}, a {type(value).__name__}")
                require(math.isfinite(value), f"{name} is {value}")

    def test_metrics_are_in_their_ranges(self) -> None:
        """Metrics of networks of all kinds are in the range of their name (`RANGES`) or of the contract class.

        Way out: return shares, not percent; set ``ranges`` of the contract class for other metrics.
        """
        task = self.make_task()
        inner = self._predictor(task)
        networks: dict[str, Callable[[Tensor], Tensor]] = {
            "a linear network": inner,
            "a constant": lambda inputs: torch.zeros_like(inner(inputs)),
            "large outputs": lambda inputs: 1e3 * inner(inputs),
        }
        ranges = {**RANGES, **self.ranges}
        for what, network in networks.items():
            for name, value in task.score(network, "search").items():
                low, high = ranges.get(name, (-math.inf, math.inf))
                require(low <= value <= high, f"{name} of {what} is {value}, outside {low:g} .. {high:g}")

    def test_scores_depend_on_the_outputs(self) -> None:
        """Another network has other metrics.

        Way out: compute the metrics from the outputs of the network that `score` is given.
        """
        task = self.make_task()
        inner = self._predictor(task)
        scores = [
            dict(task.score(network, "train+search"))
            for network in (inner, lambda inputs: -inner(inputs), lambda inputs: inner(inputs).flip(0))
        ]
        require(scores[0] != scores[1] or scores[0] != scores[2], f"three networks have the scores {scores[0]}")

    def test_the_report_has_the_scores_in_their_intervals(self) -> None:
        """The metrics are those of `score`; intervals contain their value; details are JSON; a repetition is equal.

        Way out: compute `report` from the outputs that `score` uses, and resample with a fixed stream.
        """
        task = self.make_task()
        report = task.report(self._predictor(task), "test")
        scores = dict(task.score(self._predictor(task), "test"))
        require(dict(report.metrics) == scores, f"the report has {dict(report.metrics)}, score returns {scores}")
        unknown = set(report.intervals) - set(report.metrics)
        require(not unknown, f"intervals of unknown metrics {unknown}")
        for metric, (low, high) in report.intervals.items():
            value = report.metrics[metric]
            require(low <= value <= high, f"{metric} = {value} is outside its interval {low} .. {high}")
        json.dumps(dict(report.details), allow_nan=False)
        require(task.report(self._predictor(task), "test") == report, "a second report differs")

    def test_outputs_of_the_right_shape_are_accepted(self) -> None:
        """`check_outputs` accepts random outputs of the right shape, and changes neither outputs nor targets.

        Way out: compare the shapes that the loss needs, and raise `DataError` for others.
        """
        task = self.make_task()
        inputs, targets = next(task.batches("train", 0, 0))
        outputs = self._predictor(task)(inputs)
        before = outputs.clone(), targets.clone()
        task.check_outputs(outputs, targets)
        same = torch.equal(before[0], outputs) and torch.equal(before[1], targets)
        require(same, "check_outputs changed its arguments")

    def test_score_does_not_depend_on_training(self) -> None:
        """It does not depend on training, earlier calls, the global generators, and whether gradients are recorded.

        Way out: keep no state between calls; no shuffling and no augmentation in `score`.
        """
        task = self.make_task()
        expected, order = task.score(self._predictor(task), "search"), self._scored_inputs(task, "search")
        for _ in task.batches("train", 5, 11):
            pass
        next(task.batches("search", 1, 1), None)
        task.score(self._predictor(task), "train")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(987654321)
            require(task.score(self._predictor(task), "search") == expected, "after training, scores are other ones")
        require(torch.equal(self._scored_inputs(task, "search"), order), "samples are scored in another order")
        again = self.make_task().score(self._predictor(task), "search")
        require(again == expected, "a second task has other scores")

    def _outputs(self, task: Task, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(count, *self._output_shape(task), generator=generator)
