"""Results that are not scalars, and warnings about results that a constant prediction reaches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from automl_nas.evaluation.tasks.losses import Kind
from automl_nas.evaluation.tasks.metrics import Pairs

LARGEST_MATRIX = 100
"""The largest number of classes for which a report contains the confusion matrix."""


class Details(ABC):
    """Collects outputs of a split batch by batch."""

    @abstractmethod
    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Add the outputs of a batch."""

    @abstractmethod
    def summary(self) -> tuple[dict[str, Any], list[str]]:
        """Return the details as plain data, and the warnings."""


class ClassDetails(Details):
    """Recall and number of targets of each class, and the confusion matrix (rows: targets; columns: predictions).

    Args:
        ignore_index: the class number of targets that do not count.
        names: of the classes; None: their numbers.
    """

    def __init__(self, ignore_index: int | None, names: Sequence[str] | None) -> None:
        self._pairs, self._names, self._classes = Pairs(ignore_index), names, 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Details.add`."""
        self._pairs.add(outputs, targets)
        self._classes = outputs.shape[1]

    def summary(self) -> tuple[dict[str, Any], list[str]]:
        """See `Details.summary`."""
        from sklearn.metrics import confusion_matrix

        targets, predictions, _, numbers, counts = self._pairs.entries
        if not len(targets):
            return {}, []
        weights = np.bincount(numbers, counts, minlength=len(targets)).astype(np.int64)
        matrix = confusion_matrix(targets, predictions, labels=range(self._classes), sample_weight=weights)
        support, hits = matrix.sum(1), np.diag(matrix)
        names = [str(k) for k in range(self._classes)] if self._names is None else list(self._names)
        details: dict[str, Any] = {
            "classes": names,
            "support": support.tolist(),
            "recall": [float(hit / total) if total else None for hit, total in zip(hits, support, strict=True)],
        }
        if self._classes <= LARGEST_MATRIX:
            details["confusion_matrix"] = matrix.tolist()
        predicted = np.flatnonzero(matrix.sum(0))
        if len(predicted) == 1:
            text = f"the network predicts the class '{names[predicted[0]]}' for every sample"
            return details, [f"{text}: it has learned nothing from its inputs"]
        if hits.sum() <= support.max():
            return details, [
                f"accuracy {hits.sum() / support.sum():.4f} is not above the share of the largest class "
                f"('{names[int(support.argmax())]}', {support.max() / support.sum():.4f}): predicting this class for "
                "every sample is as good"
            ]
        return details, []


class _ArrayDetails(Details):
    """Keeps outputs and targets as arrays of shape ``(samples, k)``."""

    def __init__(self) -> None:
        self._parts: list[tuple[Any, Any]] = []

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Details.add`."""
        flat = [part.reshape(len(part), -1).double().numpy() for part in (targets, outputs)]
        self._parts.append((flat[0], flat[1]))

    @property
    def arrays(self) -> list[Any]:
        """Targets and outputs."""
        return [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]


class LabelDetails(_ArrayDetails):
    """Precision, recall and number of positive targets of each label.

    Args:
        names: of the labels; None: their numbers.
    """

    def __init__(self, names: Sequence[str] | None) -> None:
        super().__init__()
        self._names = names

    def summary(self) -> tuple[dict[str, Any], list[str]]:
        """See `Details.summary`."""
        from sklearn.metrics import multilabel_confusion_matrix

        targets, outputs = self.arrays
        predicted = outputs > 0
        counts = [
            multilabel_confusion_matrix(targets[:, k] > 0.5, predicted[:, k], labels=[True])[0].tolist()
            for k in range(targets.shape[1])
        ]
        details = {
            "labels": [str(k) for k in range(len(counts))] if self._names is None else list(self._names),
            "support": [int(c[1][0] + c[1][1]) for c in counts],
            "precision": [_ratio(c[1][1], c[1][1] + c[0][1]) for c in counts],
            "recall": [_ratio(c[1][1], c[1][1] + c[1][0]) for c in counts],
            "confusion_matrices": counts,
        }
        if bool((predicted == predicted[0]).all()):
            return details, [
                "the network predicts the same labels for every sample: it has learned nothing from its inputs that "
                "changes a prediction"
            ]
        return details, []


class NumberDetails(_ArrayDetails):
    """RMSE and R2 of each output, and mean and deviation of its targets."""

    def summary(self) -> tuple[dict[str, Any], list[str]]:
        """See `Details.summary`."""
        from sklearn.metrics import root_mean_squared_error

        targets, outputs = self.arrays
        if not np.isfinite(outputs).all():
            return {}, ["the network's outputs are not finite"]
        errors = root_mean_squared_error(targets, outputs, multioutput="raw_values")
        deviations = targets.std(0)
        details = {
            "rmse": errors.tolist(),
            "target_mean": targets.mean(0).tolist(),
            "target_deviation": deviations.tolist(),
        }
        constant = np.flatnonzero(errors >= deviations)
        if len(constant) == len(errors):
            return details, [
                f"the root mean squared error ({errors.mean():.4g}) is not below the deviation of the targets "
                f"({deviations.mean():.4g}): predicting their mean for every sample is as good"
            ]
        return details, []


class _NoDetails(Details):
    """Of targets that only a user's functions know."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Details.add`."""

    def summary(self) -> tuple[dict[str, Any], list[str]]:
        """See `Details.summary`."""
        return {}, []


def make_details(kind: Kind, ignore_index: int | None, names: Sequence[str] | None) -> Details:
    """Return an empty collection for targets of a kind.

    Args:
        kind: what targets are.
        ignore_index: the class number of targets that do not count.
        names: of the classes or labels; None: their numbers.
    """
    kinds: dict[Kind, Callable[[], Details]] = {
        "classes": lambda: ClassDetails(ignore_index, names),
        "labels": lambda: LabelDetails(names),
        "numbers": NumberDetails,
        "other": _NoDetails,
    }
    return kinds[kind]()


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
