"""`TensorTask` and `DatasetTask` keep the contract of tasks for every kind of targets."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import DatasetTask, Task, TensorTask
from automl_nas.testing import TaskContract

N = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 4))
CLASSES = np.arange(N) % 3
IMAGES = RNG.random((N, 2, 4, 4))
MASKS = np.where(RNG.random((N, 4, 4)) < 0.1, 255, RNG.integers(0, 3, (N, 4, 4)))
TOKENS = RNG.integers(0, 50, (N, 6))
LABELS = RNG.random((N, 5)) < 0.5


def noise(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Draws from all three global generators."""
    return x + torch.randn((), dtype=torch.float32) + np.random.rand() + random.random(), y


class TestClasses(TaskContract):
    def make_task(self) -> Task:
        return TensorTask(X, CLASSES, augment=noise, batch_size=8, class_weights="balanced", label_smoothing=0.1)

    def equivalents(self) -> Iterable[Task]:
        yield TensorTask(X, CLASSES, augment=noise, batch_size=5)


class TestBalancedSampler(TaskContract):
    def make_task(self) -> Task:
        return TensorTask(X, CLASSES, sampler="balanced", batch_size=8)


class TestSegmentation(TaskContract):
    output_shape = (3, 4, 4)
    ignored = 255

    def make_task(self) -> Task:
        return TensorTask(IMAGES, MASKS, ignore_index=255, metrics=["mean_iou", "accuracy"], batch_size=8, resamples=20)


class TestTokens(TaskContract):
    integers = True

    def make_task(self) -> Task:
        return TensorTask(TOKENS, CLASSES, metrics=["macro_f1", "balanced_accuracy"], batch_size=8, resamples=20)


class TestMultiLabel(TaskContract):
    def make_task(self) -> Task:
        return TensorTask(X, LABELS, loss="binary_cross_entropy", batch_size=8, resamples=20)


class TestRegression(TaskContract):
    output_shape = ()

    def make_task(self) -> Task:
        return TensorTask(X, X[:, 0] * 100 + 5, loss="mse", standardize_targets=True, batch_size=8, resamples=20)


class TestOwnFunctions(TaskContract):
    output_shape = (2,)

    def make_task(self) -> Task:
        def pinball(outputs: Tensor, targets: Tensor) -> Tensor:
            error = targets - outputs
            return torch.maximum(0.9 * error, -0.1 * error).mean()

        def worst(outputs: Tensor, targets: Tensor) -> float:
            return float((outputs - targets).abs().max())

        return TensorTask(
            X, X[:, :2], loss=pinball, metrics=["r2", {"worst": (worst, "minimize")}], batch_size=8, resamples=20
        )


class Noisy(Dataset[Any]):
    """A Dataset whose samples are augmented by the global generators."""

    def __init__(self, low: int, high: int, augmented: bool = True) -> None:
        self._low, self._high, self._augmented = low, high, augmented

    def __len__(self) -> int:
        return self._high - self._low

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x, y = torch.tensor(X[self._low + index]), int(CLASSES[self._low + index])
        return (noise(x, torch.tensor(0))[0] if self._augmented else x), y


class TestDataset(TaskContract):
    def make_task(self) -> Task:
        return DatasetTask(Noisy(0, N), unaugmented=Noisy(0, N, False), batch_size=8)

    def equivalents(self) -> Iterable[Task]:
        yield DatasetTask(Noisy(0, N), unaugmented=Noisy(0, N, False), batch_size=6, targets=CLASSES)


class TestGivenSplits(TaskContract):
    def make_task(self) -> Task:
        return DatasetTask(Noisy(0, 40, False), search=Noisy(40, 50, False), test=Noisy(50, N, False), batch_size=8)


@pytest.mark.process
@pytest.mark.slow
def test_loader_workers_read_the_same_samples() -> None:
    tasks = [
        DatasetTask(Noisy(0, N), unaugmented=Noisy(0, N, False), batch_size=8, workers=workers) for workers in (0, 2)
    ]
    here, there = (list(task.batches("train", 1, 2, 1)) for task in tasks)
    assert len(here) == len(there) == tasks[0].batches_per_epoch("train") - 1
    for mine, theirs in zip(here, there, strict=True):
        assert torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])


def test_given_splits_are_the_samples_that_were_given() -> None:
    task = TensorTask(X[:40], CLASSES[:40], search=(X[40:50], CLASSES[40:50]), test=(X[50:], CLASSES[50:]))
    for split, part in (("search", slice(40, 50)), ("test", slice(50, N))):
        inputs, targets = next(task.scored_batches(split))
        assert torch.equal(inputs, torch.tensor(X[part], dtype=torch.float32))
        assert torch.equal(targets, torch.tensor(CLASSES[part]))


def test_held_out_splits_are_stratified() -> None:
    y = np.repeat([0, 1, 2], [100, 40, 20])
    task = TensorTask(np.random.default_rng(1).normal(size=(160, 3)), y, test_fraction=0.25, search_fraction=0.25)
    counts = {s: np.bincount(next(task.scored_batches(s))[1].numpy()).tolist() for s in ("test", "search")}
    assert counts == {"test": [25, 10, 5], "search": [19, 7, 4]}


def test_a_balanced_sampler_draws_every_class_equally_often() -> None:
    y = np.repeat([0, 1], [900, 100])
    task = TensorTask(np.arange(1000.0)[:, None], y, sampler="balanced", batch_size=10)
    drawn = torch.cat([targets for epoch in range(20) for _, targets in task.batches("train", epoch, 0)])
    # 12,800 draws: the standard deviation of the share is 0.0044.
    assert float(drawn.double().mean()) == pytest.approx(0.5, abs=0.02)


def test_standardised_targets_have_mean_0_and_scores_their_own_unit() -> None:
    y = X[:, :1] * 40 + 300
    task = TensorTask(X, y, loss="mse", standardize_targets=True, batch_size=38, resamples=0)
    ((_, targets),) = task.batches("train", 0, 0)
    assert float(targets.mean()) == pytest.approx(0, abs=1e-5)
    assert float(targets.std(correction=0)) == pytest.approx(1, rel=1e-5)
    scale = task.report(lambda x: x[:, :1], "test").details["target_scale"]
    perfect = task.score(lambda x: (x[:, :1] * 40 + 300 - scale["mean"][0]) / scale["deviation"][0], "test")
    assert perfect["rmse"] == pytest.approx(0, abs=1e-4)
    assert task.score(lambda x: torch.zeros(len(x), 1), "test")["rmse"] > 20


def test_targets_that_are_the_same_in_all_samples_are_only_shifted() -> None:
    y = np.stack([np.full(len(X), 0.1), X[:, 0]], axis=1)
    task = TensorTask(X, y, loss="mse", standardize_targets=True, batch_size=38, resamples=0)
    ((_, targets),) = task.batches("train", 0, 0)
    assert targets[:, 0].tolist() == [0.0] * 38
    scale = task.report(lambda x: x[:, :2], "test").details["target_scale"]
    assert (scale["mean"][0], scale["deviation"][0]) == (np.float32(0.1), 1.0)


def test_fingerprints_change_with_the_data() -> None:
    changed = X.copy()
    changed[7, 2] += 1e-3
    prints = {TensorTask(x, y).fingerprint() for x, y in ((X, CLASSES), (changed, CLASSES), (X, CLASSES[::-1]))}
    prints.add(TensorTask(X, CLASSES, split_seed=1).fingerprint())
    assert len(prints) == 4
    assert DatasetTask(Noisy(0, 40, False)).fingerprint() != DatasetTask(Noisy(1, 41, False)).fingerprint()


class Listed:
    """A Dataset of listed samples."""

    def __init__(self, *samples: Any, repeat: int = 20) -> None:
        self._samples = list(samples) * repeat

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Any:
        if isinstance(self._samples[index], Exception):
            raise self._samples[index]
        return self._samples[index]


def test_two_classes_of_a_dataset_with_one_name_get_their_numbers() -> None:
    # As torchvision's ImageNet, with a tuple of synonyms for each class.
    train = Listed(*((np.full(3, k), k) for k in range(3)))
    train.classes = [("crane", "bird"), ("crane",), ("crane",)]  # type: ignore[attr-defined]
    assert DatasetTask(train, batch_size=8).class_names == ("crane, bird", "crane (1)", "crane (2)")
    with pytest.raises(ConfigurationError, match="the classes 0 and 2 are both called 'a'"):
        DatasetTask(train, class_names=["a", "b", "a"])


class OwnGenerator(Listed):
    generator: ClassVar = np.random.default_rng(0)

    def __getitem__(self, index: int) -> Any:
        return torch.tensor(self.generator.normal(size=3)), index % 2


def image() -> Any:
    from PIL import Image

    return Image.new("L", (4, 4))


ONE = (np.zeros(3), 0), (np.ones(3), 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TensorTask(X, CLASSES[:50]), "x has 60 samples, and y has 50 targets"),
        (lambda: TensorTask(X[:, 0], CLASSES), r"x has the shape \(60,\); it needs \(samples, ...\)"),
        (lambda: TensorTask(np.zeros((9, 2), dtype=np.uint8), CLASSES[:9]), r"x is uint8.*x / 255"),
        (lambda: TensorTask([["a"]], [0]), "x is a list, and not a tensor or an array of numbers"),
        (lambda: TensorTask(np.where(X[7, 2] == X, np.nan, X), CLASSES), r"x is nan at the index \[7, 2\]"),
        (lambda: TensorTask(-TOKENS, CLASSES), "tokens must be at least 0"),
        (lambda: TensorTask(X, CLASSES * 1.0), "y is torch.float64, but classes are integers"),
        (lambda: TensorTask(X, CLASSES - 1), "class number -1"),
        (lambda: TensorTask(X, CLASSES * 2), "3 different class numbers from 0 to 4; renumber them"),
        (lambda: TensorTask(X, CLASSES * 0), "all targets are of class 0"),
        (lambda: TensorTask(X, CLASSES, num_classes=2), "class number 2, but num_classes is 2"),
        (lambda: TensorTask(X, CLASSES, test=(X, CLASSES + 1)), "contains the class number 3, .* up to 2; .*num_class"),
        (lambda: TensorTask(X, np.array(["b", "a"] * 30)), r"y is text, such as 'a'; number the classes with numpy"),
        (lambda: TensorTask(X, LABELS[:, 0], loss="binary_cross_entropy"), r"shape \(samples, labels\), not \(60,\)"),
        (lambda: TensorTask(X, CLASSES[:, None], loss="binary_cross_entropy"), "must be 0 or 1"),
        (lambda: TensorTask(X[:6], CLASSES[:6]), "class 0 has 2 samples, too few|class . has . sample"),
        (lambda: TensorTask(X, CLASSES, test=(X[:, :3], CLASSES)), r"given split have the shapes \(3,\)"),
        (lambda: TensorTask(X, CLASSES, augment=lambda x, y: (x[:1], y)), r"augment turned the input .* into"),
        (lambda: TensorTask(X, CLASSES, augment=lambda x, y: x), r"augment must return \(input, target\)"),
        (lambda: DatasetTask(Noisy(0, N)), r"held-out samples \(search and test\) would be scored with augmentation"),
        (lambda: DatasetTask(OwnGenerator(0)), "draws from a generator of its own"),
        (lambda: DatasetTask(iter([])), "is a list_iterator, and not a map-style Dataset"),  # type: ignore[arg-type]
        (lambda: DatasetTask(Listed(repeat=1)), "the Dataset train is empty"),
        (lambda: DatasetTask(Listed(*ONE, np.zeros(3))), r"sample . of the Dataset train .*not \(input, target\)"),
        (lambda: DatasetTask(Listed(*ONE, OSError("broken file"))), "sample . of the Dataset train cannot be .*broken"),
        (lambda: DatasetTask(Listed(*ONE, (np.zeros(4), 0))), r"\(4,\), and that of another .*\(3,\); all must be"),
        (lambda: DatasetTask(Listed((image(), 0), (image(), 1))), "input of sample 0 .* is a Image.*ToDtype"),
        (lambda: DatasetTask(Listed(*ONE), targets=[0]), "targets has 1 entries, and train has 40"),
        (lambda: DatasetTask(Listed(*ONE), targets=[1, 0] * 20), "first of targets is not the target of the first"),
        (lambda: DatasetTask(Listed(*ONE), unaugmented=Listed(*ONE, repeat=3)), "unaugmented has 6 samples"),
    ],
)  # fmt: skip
def test_bad_data_is_refused_with_its_place(make: Callable[[], Task], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()
