"""Tasks that break their contract."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automl_nas.evaluation import SPLITS, Batch, Direction, Predictor, Task, TaskReport
from automl_nas.testing import Contract, TaskContract, ToyTask
from broken_plugins.cases import Cases

SMALL = {"train": 24, "search": 12, "test": 12, "batch_size": 4}


def contract(component: Any) -> type[Contract]:
    class Subject(TaskContract):
        def make_task(self) -> Task:
            made: Task = component()
            return made

        def equivalents(self) -> Iterable[Task]:
            yield component(batch_size=3)

    return Subject


CASES = Cases("tasks", contract)


@CASES.keeps
class Blobs(Task):
    """A toy task whose methods are changed one at a time; keeps the contract."""

    def __init__(self, **settings: Any) -> None:
        self.inner, self.calls = ToyTask(**{**SMALL, **settings}), 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.inner.input_shape

    @property
    def num_classes(self) -> int | None:
        return self.inner.num_classes

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return self.inner.metrics

    def size(self, split: str) -> int:
        return self.inner.size(split)

    def batches_per_epoch(self, split: str) -> int:
        return self.inner.batches_per_epoch(split)

    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs, targets

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for number, (inputs, targets) in enumerate(self.inner.batches(split, epoch, seed, start)):
            yield self.change(number, inputs, targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.inner.loss(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self.inner.score(model, split)


@CASES.breaks("another_process_gives_the_same")
class OrderByHash(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, epoch, seed + hash(split) % 1000, start)


@CASES.breaks("another_process_gives_the_same")
class DefaultDtype(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs.to(torch.get_default_dtype()), targets


@CASES.breaks("another_process_gives_the_same")
class FingerprintByHash(Blobs):
    def fingerprint(self) -> str | None:
        return str(hash("data"))


@CASES.breaks("the_global_generators_are_left_alone")
class AugmentsGlobally(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        random.random()
        return inputs, targets


@CASES.breaks("nothing_is_printed")
class PrintsProgress(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        print("scoring", split)
        return super().score(model, split)


@CASES.breaks("no_file_is_written_elsewhere")
class CachesHere(Blobs):
    def size(self, split: str) -> int:
        Path("cache.bin").write_bytes(b"0")
        return super().size(split)


@CASES.breaks("global_settings_are_left_alone")
class DisablesGradients(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        torch.set_grad_enabled(False)
        return super().score(model, split)


@CASES.breaks("describes_itself")
class NoMetrics(Blobs):
    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {}


@CASES.breaks("describes_itself")
class UnknownDirection(Blobs):
    @property
    def metrics(self) -> Any:
        return {"accuracy": "max", "loss": "min"}


@CASES.breaks("its_reader_reads_its_files")
class ReadsOthers(Blobs):
    def files(self, split: str) -> list[str]:
        return [str(place) for place in range(self.size(split))]

    def reader(self) -> Any:
        return _zeros


def _zeros(file: Any) -> Tensor:
    return torch.zeros(1, 4, 4)


@CASES.breaks("sizes_add_up")
class WrongSum(Blobs):
    def size(self, split: str) -> int:
        return super().size(split) + (split == "train+search")


@CASES.breaks("the_fingerprint_is_a_function_of_the_data")
class FingerprintOfTheObject(Blobs):
    def fingerprint(self) -> str | None:
        return str(id(self.inner))


@CASES.breaks("an_unknown_split_is_a_user_error")
class AnySplit(Blobs):
    def size(self, split: str) -> int:
        return super().size(split) if split in SPLITS else 1


@CASES.breaks("batches_have_the_promised_number_and_shape")
class Ragged(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return (inputs[1:], targets[1:]) if number == 1 else (inputs, targets)


@CASES.breaks("batches_have_the_promised_number_and_shape")
class WrongTargets(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs, targets + 1


@CASES.breaks("batches_have_the_promised_number_and_shape")
class DoublePrecision(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs.double(), targets


@CASES.breaks("batches_have_the_promised_number_and_shape")
class HalfPrecision(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs.half(), targets


@CASES.breaks("batches_have_the_promised_number_and_shape")
class Pixels(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return (inputs.abs() * 50).to(torch.uint8), targets


@CASES.breaks("batches_have_the_promised_number_and_shape")
class ChannelsLast(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs.permute(0, 2, 3, 1), targets


@CASES.breaks("batches_have_the_promised_number_and_shape")
class ShortTargets(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs, targets.to(torch.int32)


@CASES.breaks("batches_have_the_promised_number_and_shape")
class OneBatchLess(Blobs):
    def batches_per_epoch(self, split: str) -> int:
        return super().batches_per_epoch(split) + (split == "test")


@CASES.breaks("the_training_split_holds_a_batch")
class LargeBatches(Blobs):
    def __init__(self, **settings: Any) -> None:
        super().__init__(batch_size=100)


@CASES.breaks("batches_are_a_function_of_seed_and_epoch")
class SameEpochs(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, 0, seed, start)


@CASES.breaks("batches_are_a_function_of_seed_and_epoch")
class SameSeeds(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, epoch, 0, start)


@CASES.breaks("start_skips_exactly")
class WrongStart(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, epoch + (start > 0), seed, start)


@CASES.breaks("start_skips_exactly")
class StartOfOneSplit(Blobs):
    """Skips for train only."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, epoch, seed, start if split == "train" else 0)


@CASES.breaks("batches_do_not_depend_on_what_was_asked_before")
class Stateful(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.calls += 1
        return super().batches(split, epoch, seed + self.calls, start)


@CASES.breaks("batches_do_not_depend_on_the_global_generators")
class GlobalNoise(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs + random.random(), targets


@CASES.breaks("batches_are_not_shared")
class Kept(Blobs):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.kept: dict[Any, list[Batch]] = {}

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        key = split, epoch, seed
        if key not in self.kept:
            self.kept[key] = list(super().batches(*key))
        return iter(self.kept[key][start:])


@CASES.breaks("equivalents_yield_the_same_samples")
class AugmentsByPlace(Blobs):
    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs + 0.01 * torch.arange(len(inputs)).view(-1, 1, 1, 1), targets


@CASES.breaks("splits_are_disjoint")
class ScoresTheTrainingSplit(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return super().score(model, "train" if split == "search" else split)


@CASES.breaks("training_batches_have_samples_of_their_split")
class TrainsOnTheTestSplit(Blobs):
    """Scores are right; every third training batch has images of the test split."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        foreign = list(self.inner.batches("test", epoch, seed))
        for number, batch in enumerate(super().batches(split, epoch, seed, start), start):
            yield foreign[number % len(foreign)] if split == "train" and number % 3 == 0 else batch


@CASES.breaks("training_batches_have_samples_of_their_split")
class SearchesOnTheTestSplit(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches("test" if split == "search" else split, epoch, seed, start)


@CASES.breaks("a_sample_keeps_its_target")
class ShufflesTargets(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for inputs, targets in super().batches(split, epoch, seed, start):
            yield inputs, targets.roll(1 + epoch + seed)


@CASES.breaks("known_targets_have_the_best_scores")
class ScoresOtherTargets(Blobs):
    """Targets in training batches are those of other samples, always in the same way."""

    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return inputs, (targets + 1) % 3


@CASES.breaks("known_targets_have_the_best_scores")
class WrongDirection(Blobs):
    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"accuracy": "minimize", "loss": "minimize"}


@CASES.breaks("an_epoch_covers_the_split")
class TheSameFew(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        first = next(self.inner.batches(split, 0, 0))
        for number in range(start, self.batches_per_epoch(split)):
            places = torch.tensor([(number + epoch + seed + place) % len(first[0]) for place in range(len(first[0]))])
            yield first[0][places], first[1][places]


@CASES.breaks("loss_is_a_differentiable_scalar")
class ZeroLoss(Blobs):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * 0


@CASES.breaks("loss_is_a_differentiable_scalar")
class LossAsANumber(Blobs):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets).item()  # type: ignore[return-value]


@CASES.breaks("loss_falls_along_its_gradient")
class AbsoluteNoise(Blobs):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = super().loss(outputs, targets)
        return loss.detach() * 2 - loss


@CASES.breaks("loss_is_a_mean")
class SummedLoss(Blobs):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * len(targets)


@CASES.breaks("score_shows_every_sample_once_and_returns_the_metrics")
class HalfScored(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return super().score(lambda inputs: model(inputs[::2]).repeat_interleave(2, 0), split)


@CASES.breaks("score_shows_every_sample_once_and_returns_the_metrics")
class ExtraMetric(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return {**super().score(model, split), "extra": 1.0}


@CASES.breaks("score_shows_every_sample_once_and_returns_the_metrics")
class TensorScores(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return {name: torch.tensor(value) for name, value in super().score(model, split).items()}  # type: ignore


@CASES.breaks("metrics_are_in_their_ranges")
class Percent(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        scores = super().score(model, split)
        return {**scores, "accuracy": 100 * scores["accuracy"]}


@CASES.breaks("scores_depend_on_the_outputs")
class ConstantScores(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        super().score(model, split)
        return {"accuracy": 0.5, "loss": 1.0}


@CASES.breaks("the_report_has_the_scores_in_their_intervals")
class DisplacedIntervals(Blobs):
    def report(self, model: Predictor, split: str) -> TaskReport:
        scores = self.score(model, split)
        return TaskReport(scores, {name: (value + 0.1, value + 0.2) for name, value in scores.items()})


@CASES.breaks("outputs_of_the_right_shape_are_accepted")
class RefusesOutputs(Blobs):
    def check_outputs(self, outputs: Tensor, targets: Tensor) -> None:
        assert outputs.shape == targets.shape


@CASES.breaks("score_does_not_depend_on_training")
class NoisyScore(Blobs):
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return super().score(lambda inputs: model(inputs) * (1 + torch.rand(1)), split)


@CASES.breaks("score_does_not_depend_on_training")
class DriftingScore(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.calls += 1
        return super().batches(split, epoch, seed, start)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return super().score(lambda inputs: model(inputs) * (1 + self.calls), split)


@CASES.breaks("batches_have_the_promised_number_and_shape")
class NeverEnds(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        while True:
            yield from super().batches(split, epoch, seed, start)


@CASES.breaks("describes_itself")
class EqualNames(Blobs):
    @property
    def class_names(self) -> tuple[str, ...] | None:
        return ("cat", "cat", "dog")


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("scores_and_batches_have_inputs_of_one_scale")
class ScoresRawImages(Blobs):
    """Training images are standardised, scored ones are not."""

    def change(self, number: int, inputs: Tensor, targets: Tensor) -> Any:
        return (inputs - 3.0) / 20.0, targets


@CASES.breaks("start_skips_exactly")
class StartOfSearchIgnored(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        return super().batches(split, epoch, seed, 0 if split == "search" else start)


@CASES.breaks("other_modules_are_left_alone")
class LeavesALoaderThread(Blobs):
    """A thread that reads ahead waits for ever if the iterator is abandoned."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        import queue
        import threading

        self.size(split)
        source = super().batches(split, epoch, seed, start)
        ready: queue.Queue[Batch | None] = queue.Queue(maxsize=1)

        def read() -> None:
            for batch in source:
                ready.put(batch)
            ready.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (batch := ready.get()) is not None:
            yield batch


@CASES.breaks("the_loss_is_computed_on_the_device_of_the_outputs")
class WeightsOnTheCpu(Blobs):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(outputs, targets, weight=torch.ones(3))


@CASES.breaks("loss_is_a_differentiable_scalar")
class LossRemembers(Blobs):
    """A moving average of the loss, kept from call to call."""

    average = 0.0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = super().loss(outputs, targets)
        self.average = 0.9 * self.average + 0.1 * float(loss.detach())
        return loss + 1e-4 * self.average


@CASES.breaks("parts_make_up_the_batch")
class PartsOverlap(Blobs):
    def batch_parts(
        self, split: str, epoch: int, seed: int, start: int = 0, *, rank: int, size: int
    ) -> Iterator[Batch]:
        for inputs, targets in self.batches(split, epoch, seed, start):
            yield inputs[rank:], targets[rank:]


@CASES.breaks("parts_make_up_the_batch")
class PartsIgnoreTheStart(Blobs):
    def batch_parts(
        self, split: str, epoch: int, seed: int, start: int = 0, *, rank: int, size: int
    ) -> Iterator[Batch]:
        for inputs, targets in self.batches(split, epoch, seed):
            yield inputs[rank::size], targets[rank::size]


@CASES.breaks("batches_are_not_shared")
class ReusesABuffer(Blobs):
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        buffer = torch.zeros(4, *self.input_shape, dtype=torch.float32)
        for inputs, targets in super().batches(split, epoch, seed, start):
            if len(inputs) == len(buffer):
                yield buffer.copy_(inputs), targets
            else:
                yield inputs, targets
