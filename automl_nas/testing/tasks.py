"""Contract tests of tasks: `TaskContract`."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
import torch

from automl_nas.errors import UserError
from automl_nas.evaluation.task import SPLITS, Batch, Task

if TYPE_CHECKING:
    from torch import Tensor

BASIC = ("train", "search", "test")


class TaskContract(ABC):
    """The tests of a `Task`. Derive a class whose name begins with ``Test`` and implement `make_task`.

    Use a small task: every test reads its data several times.

    Attributes:
        shared: the number of samples of one basic split that may also be in another, because the data set contains
            duplicates.
        output_shape: the shape of a network's output for one sample; None: ``(num_classes,)``. Set it for regression
            (``(k,)``) and for dense targets (``(classes, height, width)``).
        ignored: the class number of targets that do not count; None: all count.
    """

    shared: ClassVar[int] = 0
    output_shape: ClassVar[tuple[int, ...] | None] = None
    ignored: ClassVar[int | None] = None

    @abstractmethod
    def make_task(self) -> Task:
        """Return a new task; all instances have the same settings."""

    def equivalents(self) -> Iterable[Task]:
        """Return tasks that must yield the same samples in the same order (default: an empty tuple).

        Return the task with other numbers of loader workers and with other batch sizes, if it has such settings.
        """
        return ()

    # Properties

    def test_describes_itself(self) -> None:
        """Shape, number of outputs and metrics are valid."""
        task = self.make_task()
        assert all(isinstance(side, int) and side >= 1 for side in task.input_shape)
        assert task.num_classes is None or task.num_classes >= 1
        assert self.output_shape is not None or task.num_classes is not None, "set output_shape of the contract"
        assert task.metrics, "a task needs at least one metric: the first one is the default objective"
        assert set(task.metrics.values()) <= {"maximize", "minimize"}
        assert task.class_names is None or len(task.class_names) == task.num_classes
        preprocessing = task.preprocessing()
        if preprocessing is not None:
            assert json.loads(json.dumps(preprocessing)) == preprocessing, "preprocessing must be plain data"
            if preprocessing.get("input") == "image":
                channels, height, width = task.input_shape
                assert preprocessing["size"] == [height, width]
                assert len(preprocessing["mean"]) == len(preprocessing["std"]) == channels

    def test_its_reader_reads_its_files(self) -> None:
        """If a task names its files, its reader makes the inputs of the network from them, also after pickling."""
        task = self.make_task()
        read, files = task.reader(), task.files("test")
        if read is None or files is None:
            return
        again = pickle.loads(pickle.dumps(read))  # noqa: S301 - our own bytes
        inputs = self._scored_inputs(task, "test")
        assert len(files) == len(inputs)
        for file, expected in zip(files[:5], inputs, strict=False):
            assert torch.equal(read(file), expected)
            assert torch.equal(again(file), expected)

    def test_sizes_add_up(self) -> None:
        """Every basic split has samples, and train+search has those of both."""
        task = self.make_task()
        assert all(task.size(split) >= 1 for split in BASIC)
        assert task.size("train+search") == task.size("train") + task.size("search")

    def test_the_fingerprint_is_a_function_of_the_data(self) -> None:
        """Two tasks of the same data have the same fingerprint: text, or None where it is not known."""
        fingerprint = self.make_task().fingerprint()
        assert fingerprint is None or (isinstance(fingerprint, str) and fingerprint)
        assert fingerprint == self.make_task().fingerprint()

    @pytest.mark.parametrize("method", ["size", "batches_per_epoch", "batches", "score"])
    def test_an_unknown_split_is_a_user_error(self, method: str) -> None:
        """The call raises the error, before a batch is read, and the message offers the nearest split."""
        task = self.make_task()
        calls: dict[str, Callable[[], object]] = {
            "size": lambda: task.size("trian"),
            "batches_per_epoch": lambda: task.batches_per_epoch("trian"),
            "batches": lambda: next(task.batches("trian", 0, 0)),
            "score": lambda: task.score(self._predictor(task), "trian"),
        }
        with pytest.raises(UserError, match="train"):
            calls[method]()

    # Training batches

    @pytest.mark.parametrize("split", SPLITS)
    def test_batches_have_the_promised_number_and_shape(self, split: str) -> None:
        """Their number is batches_per_epoch, they have one size, inputs of input_shape, and are on the CPU.

        Inputs are floating and finite, or int64 tokens that are not negative.
        """
        task = self.make_task()
        batches = list(task.batches(split, 0, 1))
        assert len(batches) == task.batches_per_epoch(split)
        sizes = {len(inputs) for inputs, _ in batches}
        assert len(sizes) <= 1, f"batches of different sizes: {sizes}"
        assert sum(len(inputs) for inputs, _ in batches) <= task.size(split)
        for inputs, targets in batches:
            assert tuple(inputs.shape[1:]) == task.input_shape
            assert inputs.device.type == targets.device.type == "cpu"
            assert inputs.is_floating_point() or (inputs.dtype == torch.int64 and int(inputs.min()) >= 0)
            assert bool(torch.isfinite(inputs).all())
            assert len(targets) == len(inputs)
            if targets.is_floating_point():
                assert bool(torch.isfinite(targets).all())
            elif task.num_classes is not None:
                counted = targets[targets != self.ignored] if self.ignored is not None else targets
                assert int(counted.min()) >= 0 and int(counted.max()) < task.num_classes

    def test_the_training_split_holds_a_batch(self) -> None:
        """Training needs at least one batch in an epoch."""
        assert self.make_task().batches_per_epoch("train") >= 1

    def test_batches_are_a_function_of_seed_and_epoch(self) -> None:
        """Two tasks yield equal batches; those of another epoch or another seed differ."""
        task, again = self.make_task(), self.make_task()
        first = list(task.batches("train", 3, 7))
        _assert_equal(first, list(again.batches("train", 3, 7)))
        assert not _equal(first, list(task.batches("train", 4, 7))), "another epoch must give other batches"
        assert not _equal(first, list(task.batches("train", 3, 8))), "another seed must give other batches"

    def test_start_skips_exactly(self) -> None:
        """With ``start=k`` the first batch is number k, for every k; after the last batch the iterator is empty."""
        task = self.make_task()
        whole = list(task.batches("train", 2, 5))
        for start in sorted({0, 1, len(whole) // 2, len(whole) - 1, len(whole)}):
            _assert_equal(whole[start:], list(self.make_task().batches("train", 2, 5, start)))

    def test_batches_do_not_depend_on_what_was_asked_before(self) -> None:
        """They are equal if other iterators are used or abandoned in between, or a network is scored."""
        expected = list(self.make_task().batches("train", 1, 2))
        task = self.make_task()
        other = task.batches("train", 9, 9)
        next(other)
        mine = task.batches("train", 1, 2)
        seen = [next(mine)]
        next(task.batches("train+search", 0, 0))
        task.score(self._predictor(task), "search")
        for batch in mine:
            seen.append(batch)
            next(other, None)
        _assert_equal(expected, seen)

    def test_batches_leave_the_global_generators_alone(self) -> None:
        """Batches neither depend on the generators of torch, NumPy and Python nor change them."""
        task = self.make_task()
        expected = list(task.batches("train", 0, 3))
        with _generators_at(123456789):
            before = _generator_states()
            iterator = task.batches("train", 0, 3)
            seen = [next(iterator)]
            assert _generator_states() == before, "reading a batch changed a global generator"
            torch.rand(1), np.random.rand(), random.random()
            _assert_equal(expected, [*seen, *iterator])

    def test_batches_are_not_shared(self) -> None:
        """A change of a batch in place does not change the data."""
        task = self.make_task()
        expected = [(inputs.clone(), targets.clone()) for inputs, targets in task.batches("train", 0, 0)]
        for inputs, targets in task.batches("train", 0, 0):
            inputs.zero_()
            targets.zero_()
        _assert_equal(expected, list(task.batches("train", 0, 0)))

    @pytest.mark.parametrize("split", ["train", "train+search"])
    def test_equivalents_yield_the_same_samples(self, split: str) -> None:
        """The n-th sample of an epoch does not depend on the number of workers and on its position in the batch."""
        expected = _samples(self.make_task().batches(split, 1, 4))
        for number, other in enumerate(self.equivalents()):
            batches = list(other.batches(split, 1, 4))
            samples = _samples(iter(batches))
            common = min(len(expected[0]), len(samples[0]))
            assert common > 0
            for mine, theirs in zip(expected, samples, strict=True):
                assert torch.equal(mine[:common], theirs[:common]), f"equivalents()[{number}] yields other samples"
            start = len(batches) // 2
            _assert_equal(batches[start:], list(other.batches(split, 1, 4, start)))

    # Splits

    def test_splits_are_disjoint(self) -> None:
        """No sample is in two of train, search and test; train+search has exactly the samples of both."""
        task = self.make_task()
        seen = {split: _fingerprints(self._scored_inputs(task, split)) for split in SPLITS}
        for one, two in (("train", "search"), ("train", "test"), ("search", "test")):
            common = (seen[one] & seen[two]).total()
            assert common <= self.shared, f"{common} samples are in '{one}' and in '{two}'"
        assert seen["train+search"] == seen["train"] + seen["search"]

    # Loss

    def test_loss_is_a_differentiable_scalar(self) -> None:
        """Its gradient is finite, and is not zero for random outputs."""
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        outputs = torch.randn(len(targets), *self._output_shape(task), generator=torch.Generator().manual_seed(0))
        outputs.requires_grad_()
        loss = task.loss(outputs, targets)
        assert loss.dim() == 0 and bool(torch.isfinite(loss))
        (gradient,) = torch.autograd.grad(loss, outputs)
        assert bool(torch.isfinite(gradient).all()) and bool((gradient != 0).any())

    def test_loss_is_a_mean(self) -> None:
        """A batch that is repeated twice has the same loss, up to rounding."""
        task = self.make_task()
        _, targets = next(task.batches("train", 0, 0))
        outputs = torch.randn(len(targets), *self._output_shape(task), generator=torch.Generator().manual_seed(0))
        once = task.loss(outputs, targets)
        twice = task.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets]))
        # Two float32 sums over at most a few thousand terms, in different orders.
        torch.testing.assert_close(once, twice, rtol=1e-4, atol=1e-6)

    # Scores

    @pytest.mark.parametrize("split", SPLITS)
    def test_score_shows_every_sample_once_and_returns_the_metrics(self, split: str) -> None:
        """The network is called with size(split) inputs of input_shape in a fixed order; the metrics are finite."""
        task = self.make_task()
        inputs = self._scored_inputs(task, split)
        assert len(inputs) == task.size(split)
        assert tuple(inputs.shape[1:]) == task.input_shape
        scores = task.score(self._predictor(task), split)
        assert set(scores) == set(task.metrics)
        assert all(math.isfinite(value) for value in scores.values()), scores

    def test_the_report_has_the_scores_in_their_intervals(self) -> None:
        """The metrics are those of `score`; intervals contain their value; details are JSON; a repetition is equal."""
        task = self.make_task()
        report = task.report(self._predictor(task), "test")
        assert dict(report.metrics) == dict(task.score(self._predictor(task), "test"))
        assert set(report.intervals) <= set(report.metrics)
        for metric, (low, high) in report.intervals.items():
            value = report.metrics[metric]
            assert low <= value <= high, f"{metric} = {value} is outside its interval {low} .. {high}"
        json.dumps(dict(report.details), allow_nan=False)
        assert task.report(self._predictor(task), "test") == report

    def test_outputs_of_the_right_shape_are_accepted(self) -> None:
        """`check_outputs` accepts random outputs of the right shape, and changes neither outputs nor targets."""
        task = self.make_task()
        inputs, targets = next(task.batches("train", 0, 0))
        outputs = self._predictor(task)(inputs)
        before = outputs.clone(), targets.clone()
        task.check_outputs(outputs, targets)
        assert torch.equal(before[0], outputs) and torch.equal(before[1], targets)

    def test_score_does_not_depend_on_training(self) -> None:
        """It does not depend on training, earlier calls, the global generators, and whether gradients are recorded."""
        task = self.make_task()
        expected, order = task.score(self._predictor(task), "search"), self._scored_inputs(task, "search")
        for _ in task.batches("train", 5, 11):
            pass
        next(task.batches("search", 1, 1))
        task.score(self._predictor(task), "train")
        with _generators_at(987654321):
            before = _generator_states()
            with torch.no_grad():
                assert task.score(self._predictor(task), "search") == expected
            assert _generator_states() == before, "scoring changed a global generator"
        assert torch.equal(self._scored_inputs(task, "search"), order)
        assert self.make_task().score(self._predictor(task), "search") == expected

    def _output_shape(self, task: Task) -> tuple[int, ...]:
        if self.output_shape is not None:
            return self.output_shape
        assert task.num_classes is not None
        return (task.num_classes,)

    def _predictor(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return a fixed linear network, which is deterministic and has no state."""
        shape, size = self._output_shape(task), math.prod(task.input_shape)
        weight = torch.randn(size, math.prod(shape), generator=torch.Generator().manual_seed(0)) / math.sqrt(size)
        return lambda inputs: (inputs.flatten(1).float() @ weight).reshape(len(inputs), *shape)

    def _scored_inputs(self, task: Task, split: str) -> Tensor:
        """Return the inputs with which `score` calls a network, in order."""
        seen: list[Tensor] = []
        inner = self._predictor(task)

        def recorder(inputs: Tensor) -> Tensor:
            seen.append(inputs.clone())
            return inner(inputs)

        task.score(recorder, split)
        return torch.cat(seen)


def _fingerprints(inputs: Tensor) -> Counter[bytes]:
    return Counter(sample.contiguous().numpy().tobytes() for sample in inputs)


def _samples(batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def _equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, two, strict=True)
    )


def _assert_equal(expected: list[Batch], batches: list[Batch]) -> None:
    assert len(expected) == len(batches), f"{len(batches)} batches instead of {len(expected)}"
    for number, (one, two) in enumerate(zip(expected, batches, strict=True)):
        assert _equal([one], [two]), f"batch {number} differs"


def _generator_states() -> tuple[object, ...]:
    _, key, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), rest, random.getstate()


@contextlib.contextmanager
def _generators_at(seed: int) -> Iterator[None]:
    """Set the global generators of torch, NumPy and Python in this context."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])
