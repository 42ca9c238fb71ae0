"""Metrics by name, computed by scikit-learn, and how they are collected batch by batch and resampled."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.statistics import wilson_interval
from automl_nas.evaluation.task import Direction
from automl_nas.evaluation.tasks import class_scores, number_errors
from automl_nas.evaluation.tasks.bootstrap import percentile_interval
from automl_nas.evaluation.tasks.losses import Kind, Loss
from automl_nas.evaluation.tasks.outputs import check_class_outputs, check_label_targets, check_same_shape

MetricFunction: TypeAlias = Callable[[Tensor, Tensor], float]
"""``metric(outputs, targets)`` of a whole split, on the CPU -> a number."""
OwnMetrics: TypeAlias = Mapping[str, tuple[MetricFunction, Direction]]
Metrics: TypeAlias = Sequence[str | OwnMetrics] | OwnMetrics
"""Names, and mappings from a name to ``(function, direction)``."""
Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
_PairFunction: TypeAlias = Callable[[Ints, Ints, Floats], float]
_ArrayFunction: TypeAlias = Callable[[Floats, Floats, Floats], float]


class Collected(ABC):
    """What a metric needs of the batches of a split."""

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add the outputs of a batch."""

    @abstractmethod
    def value(self) -> float:
        """Return the metric of all samples."""

    @abstractmethod
    def interval(self, weights: Iterable[Floats]) -> tuple[float, float] | None:
        """Return the 95 % interval.

        Args:
            weights: how often each sample is in each resample; see `bootstrap_weights`.
        """


class _Terms(Collected):
    """A mean of terms: each sample has a sum and a number of terms.

    Args:
        per_sample: outputs, targets -> sums and numbers of terms, two arrays of shape ``(batch,)``.
        total: outputs, targets -> the sum and the number of terms of a batch; None: from ``per_sample``.
        proportion: whether the terms are 0 or 1.
    """

    def __init__(
        self,
        per_sample: Callable[[Tensor, Tensor], tuple[Floats, Floats]],
        total: Callable[[Tensor, Tensor], tuple[float, float]] | None = None,
        *,
        proportion: bool = False,
        resampled: bool = False,
    ) -> None:
        self._per_sample, self._total, self._proportion, self._resampled = per_sample, total, proportion, resampled
        self._sum, self._count = 0.0, 0.0
        self._terms: list[tuple[Floats, Floats]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Collected.add`."""
        if self._resampled or self._total is None:
            self._terms.append(self._per_sample(outputs, targets))
        total, count = (
            self._total(outputs, targets)
            if self._total is not None
            else (float(self._terms[-1][0].sum()), float(self._terms[-1][1].sum()))
        )
        self._sum, self._count = self._sum + total, self._count + count

    def value(self) -> float:
        """See `Collected.value`."""
        return self._sum / self._count if self._count else math.nan

    def interval(self, weights: Iterable[Floats]) -> tuple[float, float] | None:
        """Return the Wilson interval of a proportion of samples, else the bootstrap interval of the mean."""
        sums, counts = (np.concatenate(parts) for parts in zip(*self._terms, strict=True))
        if self._proportion and bool((counts == 1).all()):
            return wilson_interval(self.value(), len(counts))
        with np.errstate(invalid="ignore", divide="ignore"):
            return percentile_interval(self.value(), [float((w @ sums) / (w @ counts)) for w in weights])


class Pairs:
    """The pairs of (target, predicted class) of each sample, counted, without positions that are ignored.

    A metric of labels depends on nothing else, so that scikit-learn is called with each different pair once and the
    number of its occurrences as its weight.

    Args:
        ignore_index: the class number of targets that do not count.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self._ignored, self._samples = ignore_index, 0
        self._parts: list[Ints] = []  # rows: sample, target, prediction, count

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""
        predicted = outputs.argmax(1).reshape(len(targets), -1)
        labels = targets.reshape(len(targets), -1)
        samples = torch.arange(len(targets))[:, None].expand_as(labels) + self._samples
        rows = torch.stack([samples, labels, predicted]).reshape(3, -1)
        if self._ignored is not None:
            rows = rows[:, rows[1] != self._ignored]
        unique, counts = np.unique(rows.numpy(), axis=1, return_counts=True)
        self._parts.append(np.concatenate([unique, counts[None]]).astype(np.int64))
        self._samples += len(targets)

    @property
    def entries(self) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Targets and predictions of the different pairs; and sample, number of the pair and count of each entry."""
        rows = np.concatenate(self._parts, axis=1)
        pairs, numbers = np.unique(rows[1:3], axis=1, return_inverse=True)
        return pairs[0], pairs[1], rows[0], numbers.reshape(-1), rows[3]


class _PairMetric(Collected):
    """A metric of targets and predicted classes.

    Args:
        function: targets, predictions, weights -> the metric.
        resampled: the same function for the resamples of an interval, which is faster.
        ignore_index: the class number of targets that do not count.
    """

    def __init__(self, function: _PairFunction, resampled: _PairFunction, ignore_index: int | None) -> None:
        self._function, self._resampled, self._pairs = function, resampled, Pairs(ignore_index)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Collected.add`."""
        self._pairs.add(outputs, targets)

    def value(self) -> float:
        """See `Collected.value`."""
        targets, predictions, _, numbers, counts = self._pairs.entries
        return _quiet(self._function, targets, predictions, _totals(numbers, counts, len(targets)))

    def interval(self, weights: Iterable[Floats]) -> tuple[float, float] | None:
        """See `Collected.interval`."""
        targets, predictions, samples, numbers, counts = self._pairs.entries
        values = []
        for w in weights:
            totals = _totals(numbers, w[samples] * counts, len(targets))
            present = totals > 0  # so that classes which only other resamples contain do not count
            arrays = targets[present], predictions[present], totals[present]
            values.append(self._resampled(*arrays) if present.any() else math.nan)
        return percentile_interval(self.value(), values)


def _totals(numbers: Ints, weights: NDArray[Any], size: int) -> Floats:
    return np.bincount(numbers, weights, minlength=size).astype(np.float64)


class _ArrayMetric(Collected):
    """A metric of whole arrays.

    Args:
        function: targets, outputs, weights -> the metric; targets and outputs have the shape ``(samples, k)``.
        resampled: the same function for the resamples of an interval, which is faster, for finite arrays.
    """

    def __init__(self, function: _ArrayFunction, resampled: _ArrayFunction) -> None:
        self._function, self._resampled = function, resampled
        self._parts: list[tuple[Floats, Floats]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Collected.add`."""
        self._parts.append(tuple(part.reshape(len(part), -1).double().numpy() for part in (targets, outputs)))  # type: ignore[arg-type]

    def value(self) -> float:
        """See `Collected.value`."""
        targets, outputs = self._arrays
        return _quiet(self._function, targets, outputs, np.ones(len(targets)))

    def interval(self, weights: Iterable[Floats]) -> tuple[float, float] | None:
        """See `Collected.interval`."""
        targets, outputs = self._arrays
        fast = self._resampled if np.isfinite(targets).all() and np.isfinite(outputs).all() else None
        values = []
        for w in weights:
            present = w > 0
            arrays = targets[present], outputs[present], w[present]
            values.append(_quiet(self._function, *arrays) if fast is None else fast(*arrays))
        return percentile_interval(self.value(), values)

    @property
    def _arrays(self) -> tuple[Floats, Floats]:
        targets, outputs = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        return targets, outputs


class _OwnMetric(Collected):
    """A user's function of the outputs and targets of a split."""

    def __init__(self, name: str, function: MetricFunction) -> None:
        self._name, self._function = name, function
        self._parts: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Collected.add`."""
        self._parts.append((outputs, targets))

    def value(self) -> float:
        """See `Collected.value`."""
        return self._of(*self._tensors)

    def interval(self, weights: Iterable[Floats]) -> tuple[float, float] | None:
        """See `Collected.interval`."""
        outputs, targets = self._tensors
        values = []
        for w in weights:
            drawn = torch.from_numpy(np.repeat(np.arange(len(w)), w.astype(np.int64)))
            values.append(self._of(outputs[drawn], targets[drawn]))
        return percentile_interval(self.value(), values)

    def _of(self, outputs: Tensor, targets: Tensor) -> float:
        try:
            return float(plain_number(self._function(outputs, targets)))
        except TypeError as error:
            raise DataError(f"the function of the metric '{self._name}' returned {error}") from None

    @property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        outputs, targets = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        return outputs, targets


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        direction: which values are better.
        collect: returns an empty collection; with True, one that can be resampled.
        check: raises DataError if outputs and targets do not fit the metric.
        least_samples: the smallest number of samples for which the metric is defined.
    """

    direction: Direction
    collect: Callable[[bool], Collected]
    check: Callable[[Tensor, Tensor], None]
    least_samples: int = 1


KINDS: dict[str, Kind] = {
    "accuracy": "classes",
    "top5_accuracy": "classes",
    "balanced_accuracy": "classes",
    "macro_f1": "classes",
    "mean_iou": "classes",
    "exact_match": "labels",
    "multilabel_f1": "labels",
    "average_precision": "labels",
    "rmse": "numbers",
    "mae": "numbers",
    "r2": "numbers",
}
"""Metric -> what targets it is for."""

DEFAULTS: dict[Kind, tuple[str, ...]] = {
    "classes": ("accuracy",),
    "labels": ("average_precision", "multilabel_f1", "exact_match"),
    "numbers": ("rmse", "mae", "r2"),
    "other": (),
}


def make_metrics(metrics: Metrics | None, loss: Loss, ignore_index: int | None = None) -> dict[str, Metric]:
    """Return the metrics of a task, the loss among them.

    Args:
        metrics: names and functions; None: the default of the kind of targets. The loss is added as the last one, if it
            is not listed.
        loss: of the task.
        ignore_index: the class number of targets that do not count.

    Raises:
        ConfigurationError: a name is unknown, does not fit the targets, or a function has no direction.
    """
    listed = DEFAULTS[loss.kind] if metrics is None else [metrics] if isinstance(metrics, str | Mapping) else metrics
    result: dict[str, Metric] = {}
    for item in listed:
        for name, own in item.items() if isinstance(item, Mapping) else [(item, None)]:
            result[name] = _named(name, loss, ignore_index) if own is None else _own(name, own)
    return result if "loss" in result else {**result, "loss": _loss_metric(loss)}


def _loss_metric(loss: Loss) -> Metric:
    return Metric("minimize", lambda resampled: _Terms(loss.per_sample, loss.total, resampled=resampled), loss.check)


def _own(name: str, setting: tuple[MetricFunction, Direction]) -> Metric:
    if (
        not isinstance(setting, tuple | list)
        or len(setting) != 2
        or not callable(setting[0])
        or setting[1] not in ("maximize", "minimize")
    ):
        raise ConfigurationError(
            f"the metric '{name}' must be (function, 'maximize') or (function, 'minimize'), not {setting!r}",
            path="task.metrics",
        )
    function, direction = setting
    return Metric(direction, lambda _resampled: _OwnMetric(name, function), lambda _outputs, _targets: None)


def _named(name: str, loss: Loss, ignore_index: int | None) -> Metric:
    if name == "loss":
        return _loss_metric(loss)
    if name not in KINDS:
        raise ConfigurationError(f"unknown metric '{name}'{did_you_mean(name, [*KINDS, 'loss'])}", path="task.metrics")
    kind = KINDS[name]
    if loss.kind not in (kind, "other"):
        fitting = ", ".join(each for each, its_kind in KINDS.items() if its_kind == loss.kind)
        raise ConfigurationError(
            f"the metric '{name}' does not fit the targets of this loss; fitting metrics: {fitting}, loss",
            path="task.metrics",
        )
    if kind == "classes":
        return _of_classes(name, ignore_index)
    if kind == "labels":
        return _of_labels(name)

    def check(outputs: Tensor, targets: Tensor) -> None:
        check_same_shape(outputs, targets, what=name)

    functions = {"rmse": (_rmse, number_errors.rmse), "mae": (_mae, number_errors.mae)}
    if name == "r2":
        return Metric("maximize", lambda _: _ArrayMetric(_r2, number_errors.r2), check, least_samples=2)
    return Metric("minimize", lambda _: _ArrayMetric(*functions[name]), check)


def _of_classes(name: str, ignore_index: int | None) -> Metric:
    def check(outputs: Tensor, targets: Tensor) -> None:
        check_class_outputs(outputs, targets, None, ignore_index)
        if name == "top5_accuracy" and outputs.shape[1] <= 5:
            raise DataError(f"top5_accuracy is always 1 for {outputs.shape[1]} classes; use accuracy")

    if name in ("accuracy", "top5_accuracy"):
        ranks = 1 if name == "accuracy" else 5

        def correct(outputs: Tensor, targets: Tensor) -> tuple[Floats, Floats]:
            return _correct(outputs, targets, ranks, ignore_index)

        def total(outputs: Tensor, targets: Tensor) -> tuple[float, float]:
            hits, counts = _hits(outputs, targets, ranks, ignore_index)
            return float(hits.sum()), float(counts.sum())

        return Metric("maximize", lambda resampled: _Terms(correct, total, proportion=True, resampled=resampled), check)
    functions = {
        "balanced_accuracy": (_balanced_accuracy, class_scores.balanced_accuracy),
        "macro_f1": (_macro_f1, class_scores.macro_f1),
        "mean_iou": (_mean_iou, class_scores.mean_iou),
    }
    return Metric("maximize", lambda _: _PairMetric(*functions[name], ignore_index), check)


def _hits(outputs: Tensor, targets: Tensor, ranks: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return whether the class of each target is among the first by score, and whether the target counts."""
    counts = torch.ones_like(targets, dtype=torch.bool) if ignore_index is None else targets != ignore_index
    if ranks == 1:
        hits = outputs.argmax(1) == targets
    else:
        hits = (outputs.topk(min(ranks, outputs.shape[1]), dim=1).indices == targets[:, None]).any(1)
    return hits & counts, counts


def _correct(outputs: Tensor, targets: Tensor, ranks: int, ignore_index: int | None) -> tuple[Floats, Floats]:
    hits, counts = _hits(outputs, targets, ranks, ignore_index)
    return tuple(part.reshape(len(targets), -1).sum(1).double().numpy() for part in (hits, counts))  # type: ignore[return-value]


def _of_labels(name: str) -> Metric:
    def check(outputs: Tensor, targets: Tensor) -> None:
        check_label_targets(targets)
        check_same_shape(outputs, targets, what=name)

    if name == "exact_match":

        def matches(outputs: Tensor, targets: Tensor) -> tuple[Floats, Floats]:
            same = ((outputs > 0) == (targets > 0.5)).all(1).double().numpy()
            return same, np.ones(len(same))

        return Metric("maximize", lambda resampled: _Terms(matches, proportion=True, resampled=resampled), check)
    functions = {
        "multilabel_f1": (_multilabel_f1, class_scores.multilabel_f1),
        "average_precision": (_average_precision, class_scores.average_precision),
    }
    return Metric("maximize", lambda _: _ArrayMetric(*functions[name]), check)


# Mathematics of scikit-learn, which is imported on first use: that takes a second.


def _balanced_accuracy(targets: Ints, predictions: Ints, weights: Floats) -> float:
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(targets, predictions, sample_weight=weights))


def _macro_f1(targets: Ints, predictions: Ints, weights: Floats) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="macro", sample_weight=weights, zero_division=0.0))


def _mean_iou(targets: Ints, predictions: Ints, weights: Floats) -> float:
    from sklearn.metrics import jaccard_score

    return float(jaccard_score(targets, predictions, average="macro", sample_weight=weights, zero_division=0.0))


def _multilabel_f1(targets: Floats, outputs: Floats, weights: Floats) -> float:
    from sklearn.metrics import f1_score

    if targets.shape[1] == 1:  # scikit-learn takes a single column as two classes
        binary = (targets[:, 0] > 0.5, outputs[:, 0] > 0)
        return float(f1_score(*binary, average="binary", sample_weight=weights, zero_division=0.0))
    return float(f1_score(targets > 0.5, outputs > 0, average="macro", sample_weight=weights, zero_division=0.0))


def _average_precision(targets: Floats, outputs: Floats, weights: Floats) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(targets > 0.5, outputs, average="macro", sample_weight=weights))


def _rmse(targets: Floats, outputs: Floats, weights: Floats) -> float:
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(targets, outputs, sample_weight=weights))


def _mae(targets: Floats, outputs: Floats, weights: Floats) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(targets, outputs, sample_weight=weights))


def _r2(targets: Floats, outputs: Floats, weights: Floats) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(targets, outputs, sample_weight=weights)) if len(targets) > 1 else math.nan


def _quiet(function: Callable[..., float], *arguments: Any) -> float:
    """Call a function of scikit-learn without its warnings about classes that a resample lacks; NaN if undefined."""
    if not len(arguments[0]):
        return math.nan
    from sklearn import config_context

    with warnings.catch_warnings(), config_context(skip_parameter_validation=True):
        warnings.simplefilter("ignore")
        try:
            return function(*arguments)
        except ValueError:
            return math.nan  # NaN or infinite outputs
