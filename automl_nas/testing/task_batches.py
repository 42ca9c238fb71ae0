"""Clauses of tasks about training batches: `TaskBatches`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from automl_nas.evaluation.task import SPLITS, Batch
from automl_nas.testing.contract import require
from automl_nas.testing.task_base import TaskUses


class TaskBatches(TaskUses):
    """Batches have the promised shapes and numbers, and are a function of split, epoch and seed."""

    def test_batches_have_the_promised_number_and_shape(self) -> None:
        """Their number is batches_per_epoch, they have one size, inputs of input_shape, and are on the CPU.

        Inputs are finite float32, or int64 tokens that are not negative where the contract says ``integers``.

        Way out: convert inputs with `.float()`; drop the last batch if it is smaller; leave the device to the runtime.
        """
        task = self.make_task()
        dtype = torch.int64 if self.integers else torch.float32
        for split in SPLITS:
            expected = task.batches_per_epoch(split)
            require(type(expected) is int and expected >= 0, f"batches_per_epoch('{split}') is {expected!r}")
            batches = list(islice(task.batches(split, 0, 1), expected + 1))
            require(len(batches) == expected, f"{split} has {len(batches)} batches instead of {expected}")
            sizes = {len(inputs) for inputs, _ in batches}
            require(len(sizes) <= 1, f"{split} has batches of the sizes {sizes}")
            count = sum(len(inputs) for inputs, _ in batches)
            require(count <= task.size(split), f"{split} has {task.size(split)} samples, its batches {count}")
            for batch in batches:
                require(type(batch) is tuple and len(batch) == 2, f"a batch is a {type(batch).__name__}, not a pair")
                inputs, targets = batch
                shape = tuple(inputs.shape[1:])
                require(shape == task.input_shape, f"{split} has inputs of shape {shape}, not {task.input_shape}")
                require(inputs.device.type == targets.device.type == "cpu", "a batch is not on the CPU")
                require(inputs.dtype == dtype, f"{split} has inputs of {inputs.dtype}, not {dtype}")
                require(not inputs.requires_grad, "inputs require gradients")
                require(not self.integers or int(inputs.min()) >= 0, "tokens are negative")
                require(bool(torch.isfinite(inputs).all()), "inputs are not finite")
                self._require_targets(split, task.num_classes, inputs, targets)

    def _require_targets(self, split: str, classes: int | None, inputs: Tensor, targets: Tensor) -> None:
        require(len(targets) == len(inputs), f"{split} has {len(inputs)} inputs and {len(targets)} targets")
        if targets.is_floating_point():
            require(targets.dtype == torch.float32, f"{split} has targets of {targets.dtype}, not float32")
            require(bool(torch.isfinite(targets).all()), "targets are not finite")
        else:
            require(targets.dtype in (torch.int64, torch.bool), f"{split} has targets of {targets.dtype}, not int64")
            counted = targets[targets != self.ignored] if self.ignored is not None else targets
            valid = classes is None or (int(counted.min()) >= 0 and int(counted.max()) < classes)
            require(
                valid, f"{split} has targets from {int(counted.min())} to {int(counted.max())}, of {classes} classes"
            )

    def test_the_training_split_holds_a_batch(self) -> None:
        """Training needs at least one batch in an epoch.

        Way out: make the batch smaller if the split has fewer samples, or raise `DataError` in the constructor.
        """
        require(self.make_task().batches_per_epoch("train") >= 1, "train has no batch")

    def test_batches_are_a_function_of_seed_and_epoch(self) -> None:
        """Two tasks yield equal batches; those of another epoch or another seed differ.

        Way out: shuffle with `automl_nas.streams.stream(seed, "shuffle", epoch)`.
        """
        task, again = self.make_task(), self.make_task()
        first = list(task.batches("train", 3, 7))
        _require_equal(first, list(again.batches("train", 3, 7)), "a second task")
        require(not _equal(first, list(task.batches("train", 4, 7))), "another epoch must give other batches")
        require(not _equal(first, list(task.batches("train", 3, 8))), "another seed must give other batches")

    def test_start_skips_exactly(self) -> None:
        """With ``start=k`` the first batch is number k, for every k; after the last batch the iterator is empty.

        Way out: compute the order of the epoch, then skip ``k * batch_size`` of it.
        """
        task = self.make_task()
        for split in ("train", "train+search"):
            whole = list(task.batches(split, 2, 5))
            for start in sorted({0, 1, len(whole) // 2, max(0, len(whole) - 1), len(whole)}):
                rest = list(self.make_task().batches(split, 2, 5, start))
                _require_equal(whole[start:], rest, f"{split} with start={start}")
        for split in ("search", "test"):
            whole = list(task.batches(split, 2, 5))
            _require_equal(whole[1:], list(self.make_task().batches(split, 2, 5, 1)), f"{split} with start=1")

    def test_parts_make_up_the_batch(self) -> None:
        """Part r of n of a batch has every n-th of its samples, from sample r on, also with ``start``.

        Way out: leave the default of `batch_parts`, or take `indices[rank::size]` of each batch.
        """
        task = self.make_task()
        for start in (0, 1):
            whole = list(islice(task.batches("train", 1, 3, start), 2))
            for rank in range(3):
                parts = list(islice(task.batch_parts("train", 1, 3, start, rank=rank, size=3), 2))
                expected = [(inputs[rank::3], targets[rank::3]) for inputs, targets in whole]
                _require_equal(expected, parts, f"part {rank} of 3 with start={start}")

    def test_batches_do_not_depend_on_what_was_asked_before(self) -> None:
        """They are equal if other iterators are used or abandoned in between, or a network is scored.

        Way out: keep the position in the iterator, not in the task.
        """
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
        _require_equal(expected, seen, "with other iterators in between")

    def test_batches_do_not_depend_on_the_global_generators(self) -> None:
        """Batches neither depend on the generators of torch, NumPy and Python nor change them.

        Way out: core seeds the global generators for each sample; outside of that draw from `automl_nas.streams`.
        """
        task = self.make_task()
        expected = list(task.batches("train", 0, 3))
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.manual_seed(123456789)
        np.random.seed(123456789)
        random.seed(123456789)
        try:
            before = generator_states()
            iterator = task.batches("train", 0, 3)
            seen = [next(iterator)]
            require(generator_states() == before, "reading a batch changed a global generator")
            torch.rand(1), np.random.rand(), random.random()
            _require_equal(expected, [*seen, *iterator], "with another state of the global generators")
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])

    def test_batches_are_not_shared(self) -> None:
        """A change of a batch in place does not change the data.

        Way out: index with a list or a tensor, which copies, not with a slice, which is a view.
        """
        task = self.make_task()
        expected = [(inputs.clone(), targets.clone()) for inputs, targets in task.batches("train", 0, 0)]
        scored = task.score(self._predictor(task), "train")
        for inputs, targets in task.batches("train", 0, 0):
            inputs.zero_()
            targets.zero_()
        _require_equal(expected, list(task.batches("train", 0, 0)), "after a change in place")
        require(task.score(self._predictor(task), "train") == scored, "after a change in place, scores are other ones")

    def test_equivalents_yield_the_same_samples(self) -> None:
        """The n-th sample of an epoch does not depend on the number of workers and on its position in the batch.

        Way out: seed the augmentation of a sample from (seed, epoch, index), not from the batch or the worker.
        """
        for split in ("train", "train+search"):
            expected = _samples(self.make_task().batches(split, 1, 4))
            for number, other in enumerate(self.equivalents()):
                batches = list(other.batches(split, 1, 4))
                samples = _samples(iter(batches))
                common = min(len(expected[0]), len(samples[0]))
                require(common > 0, f"equivalents()[{number}] has no batch")
                for mine, theirs in zip(expected, samples, strict=True):
                    equal = torch.equal(mine[:common], theirs[:common])
                    require(equal, f"equivalents()[{number}] yields other samples")
                start = len(batches) // 2
                rest = list(other.batches(split, 1, 4, start))
                _require_equal(batches[start:], rest, f"equivalents()[{number}] with start={start}")


def generator_states() -> tuple[object, ...]:
    """Return the states of the global generators of torch, NumPy and Python."""
    _, key, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(key).tobytes(), rest, random.getstate()


def _samples(batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
    inputs, targets = zip(*batches, strict=True)
    return torch.cat(inputs), torch.cat(targets)


def _equal(one: list[Batch], two: list[Batch]) -> bool:
    return len(one) == len(two) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, two, strict=True)
    )


def _require_equal(expected: list[Batch], batches: list[Batch], what: str) -> None:
    require(len(expected) == len(batches), f"{what}: {len(batches)} batches instead of {len(expected)}")
    for number, (one, two) in enumerate(zip(expected, batches, strict=True)):
        require(_equal([one], [two]), f"{what}: batch {number} differs")
