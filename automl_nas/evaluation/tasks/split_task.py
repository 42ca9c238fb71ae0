"""The base of `TensorTask` and `DatasetTask`: splits, training batches and scored batches over numbered samples."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation.sampling import Indices, seeded_batches
from automl_nas.evaluation.standardization import mean_and_deviation
from automl_nas.evaluation.task import SPLITS, Batch, Task
from automl_nas.evaluation.tasks.losses import Loss, LossFunction, balanced_weights, make_loss
from automl_nas.evaluation.tasks.metrics import Metrics, make_metrics
from automl_nas.evaluation.tasks.resident import ResidentSource, Source
from automl_nas.evaluation.tasks.samples import check_given_classes, check_targets
from automl_nas.evaluation.tasks.splits import hold_out
from automl_nas.evaluation.tasks.supervised import RESAMPLES, SupervisedTask

ClassWeights = Literal["balanced"] | Sequence[float] | None
Sampler = Literal["shuffle", "balanced"]


@dataclass(frozen=True)
class Sizes:
    """The numbers of samples. Those of ``train`` are numbered first, then those of ``search`` and ``test``.

    Attributes:
        train: of the training data.
        search: of the given search split; None: it is held out of the training data.
        test: of the given test split; None: it is held out of the training data, before the search split.
    """

    train: int
    search: int | None
    test: int | None


@dataclass(frozen=True)
class SplitSettings:
    """How splits and batches are made; see `TensorTask`."""

    batch_size: int
    score_batch_size: int
    search_fraction: float
    test_fraction: float
    split_seed: int
    sampler: Sampler
    workers: int

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("score_batch_size", 1), ("workers", 0)):
            if getattr(self, name) < low:
                raise ConfigurationError(
                    f"{name} must be at least {low}, not {getattr(self, name)}", path=f"task.{name}"
                )
        if self.sampler not in ("shuffle", "balanced"):
            raise ConfigurationError(
                f"unknown sampler {self.sampler!r}{did_you_mean(str(self.sampler), ['shuffle', 'balanced'])}",
                path="task.sampler",
            )

    def make(
        self, sizes: Sizes, labels: NDArray[np.int64] | None, names: Sequence[str] | None = None
    ) -> dict[str, Indices]:
        """Return the samples of each split.

        Args:
            sizes: the numbers of samples.
            labels: the classes of the training data, for stratified splits; None: plain ones.
            names: of the classes, for messages; None: their numbers.

        Raises:
            ConfigurationError: a fraction is not between 0 and 1.
            DataError: a split would be empty, or a class is too small for a split.
        """
        rest = np.arange(sizes.train, dtype=np.int64)
        classes = np.zeros(sizes.train, dtype=np.int64) if labels is None else labels
        parts, start = {}, sizes.train
        for name, size in (("search", sizes.search), ("test", sizes.test)):
            if size is not None:
                if size < 1:
                    raise DataError(f"the split '{name}' has no samples")
                parts[name], start = np.arange(start, start + size, dtype=np.int64), start + size
        for name in ("test", "search"):
            if name not in parts:
                fraction = self.test_fraction if name == "test" else self.search_fraction
                remaining, held_out = hold_out(
                    classes[rest],
                    fraction,
                    setting=f"{name}_fraction",
                    seed=self.split_seed,
                    what=name,
                    names=None if labels is None else names,
                )
                rest, parts[name] = rest[remaining], rest[held_out]
        return {"train": rest, **parts, "train+search": np.sort(np.concatenate([rest, parts["search"]]))}


@dataclass(frozen=True)
class LossSettings:
    """Loss and metrics; see `TensorTask`."""

    loss: str | LossFunction
    metrics: Metrics | None
    num_classes: int | None
    label_smoothing: float
    class_weights: ClassWeights
    ignore_index: int | None
    class_names: Sequence[str] | None


class SplitTask(SupervisedTask):
    """A task over numbered samples. A subclass provides the constructor.

    Args:
        source: reads samples.
        sizes: the numbers of samples.
        targets: of the training data, in their own unit; those of the given splits may follow.
        input_shape: of one input.
        judging: loss and metrics.
        splitting: splits and batches.
        standardize: whether training targets are standardised by the training split.
        resamples: the number of bootstrap resamples of an interval.
        preprocessing: how inputs were computed, for the report.
        preload: modules that the source needs in loader workers; see `seeded_batches`.
    """

    @abstractmethod
    def __init__(
        self,
        source: Source,
        sizes: Sizes,
        targets: Tensor,
        input_shape: tuple[int, ...],
        judging: LossSettings,
        splitting: SplitSettings,
        *,
        standardize: bool = False,
        resamples: int = RESAMPLES,
        preprocessing: Mapping[str, Any] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        plain = make_loss(judging.loss, ignore_index=judging.ignore_index)
        count = check_targets(targets, plain.kind, judging.ignore_index, num_classes=judging.num_classes)
        names = judging.class_names
        if plain.kind == "classes" and judging.num_classes is None and names is None:
            check_given_classes(targets, sizes.train, judging.ignore_index)
        if names is not None and len(names) != count:
            raise ConfigurationError(f"there are {len(names)} names for {count} classes", path="task.class_names")
        labels = targets[: sizes.train].numpy() if plain.kind == "classes" and targets.dim() == 1 else None
        if labels is not None and judging.ignore_index is not None:
            labels = np.where(labels == judging.ignore_index, count or 0, labels)
        self._splits = splitting.make(sizes, labels, judging.class_names)
        training = targets[torch.from_numpy(self._splits["train"])]
        loss = _weighted(judging, training, plain, count)
        super().__init__(
            loss,
            make_metrics(judging.metrics, loss, judging.ignore_index),
            ignore_index=judging.ignore_index,
            names=names,
            scale=_scale(training, loss) if standardize else None,
            resamples=resamples,
            preprocessing=preprocessing,
        )
        self._check_metrics()
        self._preload = tuple(preload)
        self._source: Source = source
        self._scored_source: Source = source
        self._settings, self._input_shape, self._count = splitting, input_shape, count
        self._shares = {
            split: _balanced_shares(labels, indices) if splitting.sampler == "balanced" else None
            for split, indices in self._splits.items()
        }

    def _check_metrics(self) -> None:
        """Raise DataError if a split that networks are scored on is too small for a metric."""
        for split in ("search", "test"):
            size = len(self._splits[split])
            for name, metric in self._metrics.items():
                if size < metric.least_samples:
                    raise DataError(
                        f"the metric '{name}' needs at least {metric.least_samples} samples, and the split '{split}' "
                        f"has {size}; hold out more ({split}_fraction), or name other metrics"
                    )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return self._input_shape

    @property
    def num_classes(self) -> int | None:
        """The number of classes, labels or numbers; None if only the user's own loss knows it."""
        return self._count

    def size(self, split: str) -> int:
        """Return the number of samples in a split.

        Raises:
            DataError: the split does not exist.
        """
        return len(self._indices(split))

    def batches_per_epoch(self, split: str) -> int:
        """Return the number of full batches in a split.

        Raises:
            DataError: the split does not exist.
        """
        return self.size(split) // self._settings.batch_size

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented batches; see `Task.batches`.

        Raises:
            DataError: the split does not exist.
        """
        return self.batch_parts(split, epoch, seed, start, rank=0, size=1)

    def batch_parts(
        self, split: str, epoch: int, seed: int, start: int = 0, *, rank: int, size: int
    ) -> Iterator[Batch]:
        """Yield the parts of batches that one of several processes trains on; see `Task.batch_parts`."""
        batches = seeded_batches(
            self._source,
            self._indices(split),
            batch_size=self._settings.batch_size,
            seed=seed,
            epoch=epoch,
            start=start,
            workers=self._settings.workers,
            preload=self._preload,
            shares=self._shares[split],
            rank=rank,
            size=size,
        )
        if self._scale is None:
            return batches
        mean, deviation = self._scale
        return (
            (inputs, (targets - mean.to(targets.device)) / deviation.to(targets.device)) for inputs, targets in batches
        )

    def scored_batches(self, split: str) -> Iterator[Batch]:
        """Yield the samples of a split without augmentation.

        Raises:
            DataError: the split does not exist.
        """
        indices, size = self._indices(split), self._settings.score_batch_size
        for first in range(0, len(indices), size):
            yield self._scored_source.plain(indices[first : first + size])

    @property
    def in_memory(self) -> bool:
        """Whether all samples are in memory (default: False), so that small sets may be copied to a device."""
        return False

    @property
    def augmented(self) -> bool:
        """Whether training batches are augmented (default: True)."""
        return True

    def on_device(self, device: torch.device, limit: float) -> Task:
        """Return the task with its samples on a device; see `Task.on_device`."""
        count = 1 + max(int(indices.max()) for indices in self._splits.values() if len(indices))
        source = ResidentSource.copy_of(self._source, count, device, limit=limit) if self.in_memory else None
        if source is None:
            return self
        resident = copy.copy(self)
        resident._scored_source = source
        if not self.augmented:
            resident._source = source
            resident._settings = replace(self._settings, workers=0)  # loader processes cannot read the device
        return resident

    def _indices(self, split: str) -> Indices:
        if split not in self._splits:
            raise DataError(f"unknown split '{split}'{did_you_mean(split, SPLITS)}")
        return self._splits[split]


def _weighted(judging: LossSettings, targets: Tensor, plain: Loss, count: int | None) -> Loss:
    weights: Tensor | None = None
    if isinstance(judging.class_weights, str):
        if judging.class_weights != "balanced" or plain.kind not in ("classes", "labels"):
            raise ConfigurationError(
                f"class_weights must be 'balanced' or a list of numbers, for classes or labels; not "
                f"{judging.class_weights!r} for the loss {judging.loss!r}",
                path="task.class_weights",
            )
        assert count is not None
        weights = balanced_weights(targets, plain.kind, count, judging.ignore_index)
    elif judging.class_weights is not None:
        weights = torch.tensor(judging.class_weights, dtype=torch.float32)
        if weights.shape != (count,) or not bool((torch.isfinite(weights) & (weights >= 0)).all()):
            raise ConfigurationError(
                f"needs {count} finite numbers of at least 0, one for each class, not {judging.class_weights}",
                path="task.class_weights",
            )
    return make_loss(
        judging.loss,
        num_classes=count if plain.kind == "classes" else None,
        label_smoothing=judging.label_smoothing,
        weights=weights,
        ignore_index=judging.ignore_index,
    )


def _scale(targets: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    if loss.kind != "numbers":
        raise ConfigurationError("only targets that are numbers can be standardised", path="task.standardize_targets")
    mean, deviation = mean_and_deviation(targets.double().numpy())
    return torch.as_tensor(mean).float(), torch.as_tensor(deviation).float()


def _balanced_shares(labels: NDArray[np.int64] | None, indices: Indices) -> NDArray[np.float64] | None:
    if labels is None:
        raise ConfigurationError(
            "a balanced sampler needs one class for each sample; use sampler: shuffle", path="task.sampler"
        )
    if len(indices) and int(indices.max()) >= len(labels):
        return None  # of a given split, whose targets are not known; its samples are not drawn for training
    own = labels[indices]
    return np.asarray(1.0 / np.bincount(own)[own], dtype=np.float64)
