"""The contract of tasks accepts the toy task, and each of its tests fails for a task that breaks its promise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from automl_nas.evaluation.task import SPLITS, Batch, Direction, Predictor, Task, TaskReport
from automl_nas.testing.tasks import TaskContract
from automl_nas.testing.toys import ToyTask

SMALL = {"train": 24, "search": 12, "test": 12, "batch_size": 4}


def toy(**settings: Any) -> ToyTask:
    return ToyTask(**{**SMALL, **settings})


class TestToyTask(TaskContract):
    def make_task(self) -> Task:
        return toy()

    def equivalents(self) -> Iterable[Task]:
        yield toy(batch_size=5)


class Wrapped(Task):
    """A toy task that single methods are changed of."""

    def __init__(self, **settings: Any) -> None:
        self.inner, self.calls = toy(**settings), 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.inner.input_shape

    @property
    def num_classes(self) -> int:
        return self.inner.num_classes

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return self.inner.metrics

    def size(self, split: str) -> int:
        return self.inner.size(split)

    def batches_per_epoch(self, split: str) -> int:
        return self.inner.batches_per_epoch(split)

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return self.inner.batches(split, epoch, seed, start)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner.loss(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(model, split)


class NoMetrics(Wrapped):
    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {}


class WrongSum(Wrapped):
    def size(self, split: str) -> int:
        return self.inner.size(split) + (split == "train+search")


class AnySplit(Wrapped):
    def size(self, split: str) -> int:
        return self.inner.size(split) if split in SPLITS else 1


class Ragged(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for number, (inputs, targets) in enumerate(self.inner.batches(split, epoch, seed, start)):
            yield (inputs[1:], targets[1:]) if number == 1 else (inputs, targets)


class WrongTargets(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return ((inputs, targets + 1) for inputs, targets in self.inner.batches(split, epoch, seed, start))


class Empty(Wrapped):
    def __init__(self) -> None:
        super().__init__(batch_size=100)


class SameEpochs(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return self.inner.batches(split, 0, seed, start)


class SameSeeds(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return self.inner.batches(split, epoch, 0, start)


class WrongStart(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return self.inner.batches(split, epoch + (start > 0), seed, start)


class Stateful(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.calls += 1
        return self.inner.batches(split, epoch, seed + self.calls, start)


class GlobalNoise(Wrapped):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for inputs, targets in self.inner.batches(split, epoch, seed, start):
            yield inputs + random.random(), targets


class Shared(Wrapped):
    def __init__(self) -> None:
        super().__init__()
        self.kept = list(self.inner.batches("train", 0, 0))

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return iter(self.kept[start:])


class ByBatch(Wrapped):
    """Augments by the place in the batch."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for inputs, targets in self.inner.batches(split, epoch, seed, start):
            yield inputs + torch.arange(len(inputs)).view(-1, 1, 1, 1), targets


class Leaking(Wrapped):
    """The samples of its search split are those of the training split."""

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(model, "train" if split == "search" else split)


class Detached(Wrapped):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner.loss(outputs, targets) * 0


class Summed(Wrapped):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner.loss(outputs, targets) * len(targets)


class HalfScored(Wrapped):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(lambda inputs: model(inputs[::2]).repeat_interleave(2, 0), split)


class ExtraMetric(Wrapped):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return {**self.inner.score(model, split), "extra": 1.0}


class Displaced(Wrapped):
    def report(self, model: Predictor, split: str) -> TaskReport:
        scores = self.score(model, split)
        return TaskReport(scores, {name: (value + 0.1, value + 0.2) for name, value in scores.items()})


class Refusing(Wrapped):
    def check_outputs(self, outputs: Tensor, targets: Tensor) -> None:
        assert outputs.shape == targets.shape


class NoisyScore(Wrapped):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(lambda inputs: model(inputs) + torch.rand(1), split)


class Drifting(Wrapped):
    """Scores depend on how much was trained."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.calls += 1
        return self.inner.batches(split, epoch, seed, start)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(lambda inputs: model(inputs) * (1 + self.calls), split)


def contract(make: Callable[[], Task], others: Callable[[], Iterable[Task]] = tuple) -> TaskContract:
    class Subject(TaskContract):
        def make_task(self) -> Task:
            return make()

        def equivalents(self) -> Iterable[Task]:
            return others()

    return Subject()


@pytest.mark.parametrize(
    ("task", "test", "arguments"),
    [
        (NoMetrics, "describes_itself", ()),
        (WrongSum, "sizes_add_up", ()),
        (Ragged, "batches_have_the_promised_number_and_shape", ("train",)),
        (WrongTargets, "batches_have_the_promised_number_and_shape", ("train",)),
        (Empty, "the_training_split_holds_a_batch", ()),
        (SameEpochs, "batches_are_a_function_of_seed_and_epoch", ()),
        (SameSeeds, "batches_are_a_function_of_seed_and_epoch", ()),
        (GlobalNoise, "batches_are_a_function_of_seed_and_epoch", ()),
        (WrongStart, "start_skips_exactly", ()),
        (Stateful, "batches_do_not_depend_on_what_was_asked_before", ()),
        (GlobalNoise, "batches_leave_the_global_generators_alone", ()),
        (Shared, "batches_are_not_shared", ()),
        (Leaking, "splits_are_disjoint", ()),
        (Detached, "loss_is_a_differentiable_scalar", ()),
        (Summed, "loss_is_a_mean", ()),
        (HalfScored, "score_shows_every_sample_once_and_returns_the_metrics", ("test",)),
        (ExtraMetric, "score_shows_every_sample_once_and_returns_the_metrics", ("test",)),
        (Displaced, "the_report_has_the_scores_in_their_intervals", ()),
        (Refusing, "outputs_of_the_right_shape_are_accepted", ()),
        (NoisyScore, "score_does_not_depend_on_training", ()),
        (Drifting, "score_does_not_depend_on_training", ()),
    ],
)
def test_a_broken_promise_is_found(task: Callable[[], Task], test: str, arguments: tuple[str, ...]) -> None:
    method = f"test_{test}"
    getattr(contract(toy), method)(*arguments)
    with pytest.raises(AssertionError):
        getattr(contract(task), method)(*arguments)


def test_an_unknown_split_that_is_accepted_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        contract(AnySplit).test_an_unknown_split_is_a_user_error("size")


def test_samples_that_depend_on_their_batch_are_found() -> None:
    with pytest.raises(AssertionError, match="yields other samples"):
        contract(ByBatch, lambda: [ByBatch(batch_size=5)]).test_equivalents_yield_the_same_samples("train")
