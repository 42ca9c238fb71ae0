"""Losses by name: the training loss, and the mean over a split for scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation.tasks.outputs import check_class_outputs, check_label_targets, check_same_shape

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``loss(outputs, targets)``: a scalar, the mean over the batch."""
Kind: TypeAlias = Literal["classes", "labels", "numbers", "other"]
"""What targets are: one class of several, any number of labels, real numbers, or something that only a user's function
knows."""

IGNORED = -100
"""The default ``ignore_index`` of torch."""


class Loss(ABC):
    """A loss: for training, and its total over samples for scores."""

    kind: Kind

    @abstractmethod
    def training(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""

    @abstractmethod
    def per_sample(self, outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sum and the number of terms of each sample, two arrays of shape ``(batch,)``."""

    @abstractmethod
    def total(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Return the sum and the number of terms of a batch."""

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise DataError if outputs and targets do not fit each other (default: nothing is checked)."""
        return None


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross entropy (nats). Scores leave out label smoothing and class weights.

    Attributes:
        num_classes: the number of classes; None: not checked.
        label_smoothing: of the training loss, at least 0 and below 1.
        weights: of the classes in the training loss, shape ``(classes,)``; None: equal.
        ignore_index: the class number of targets that do not count; None: all count.
    """

    num_classes: int | None = None
    label_smoothing: float = 0.0
    weights: Tensor | None = None
    ignore_index: int | None = None
    kind: Kind = "classes"

    def training(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Loss.training`."""
        weights = None if self.weights is None else self.weights.to(device=outputs.device, dtype=outputs.dtype)
        return F.cross_entropy(
            outputs, targets, weight=weights, label_smoothing=self.label_smoothing, ignore_index=self._ignored
        )

    def per_sample(self, outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Loss.per_sample`."""
        terms = F.cross_entropy(outputs.double(), targets, reduction="none", ignore_index=self._ignored)
        counts = (targets != self._ignored).reshape(len(targets), -1).sum(1)
        return terms.reshape(len(targets), -1).sum(1).numpy(), counts.double().numpy()

    def total(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """See `Loss.total`."""
        value = F.cross_entropy(outputs.double(), targets, reduction="sum", ignore_index=self._ignored)
        return float(value), float((targets != self._ignored).sum())

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Loss.check`."""
        check_class_outputs(outputs, targets, self.num_classes, self.ignore_index)

    @property
    def _ignored(self) -> int:
        return IGNORED if self.ignore_index is None else self.ignore_index


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross entropy (nats), the mean over samples and labels.

    Attributes:
        positive_weights: of the positive targets of each label in training, shape ``(labels,)``; None: equal.
    """

    positive_weights: Tensor | None = None
    kind: Kind = "labels"

    def training(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Loss.training`."""
        weights = self.positive_weights
        weights = None if weights is None else weights.to(device=outputs.device, dtype=outputs.dtype)
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), pos_weight=weights)

    def per_sample(self, outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Loss.per_sample`."""
        terms = F.binary_cross_entropy_with_logits(outputs.double(), targets.double(), reduction="none")
        return _sums(terms)

    def total(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """See `Loss.total`."""
        value = F.binary_cross_entropy_with_logits(outputs.double(), targets.double(), reduction="sum")
        return float(value), float(targets.numel())

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Loss.check`."""
        check_label_targets(targets)
        check_same_shape(outputs, targets, what="binary_cross_entropy")


_NUMBERS: dict[str, Callable[..., Tensor]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True)
class NumberLoss(Loss):
    """A loss of real numbers, the mean over samples and outputs.

    Attributes:
        name: ``mse`` (squared error), ``mae`` (absolute error) or ``huber`` (squared below 1, absolute above).
    """

    name: str
    kind: Kind = "numbers"

    def training(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Loss.training`."""
        return _NUMBERS[self.name](outputs, targets.to(outputs.dtype))

    def per_sample(self, outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Loss.per_sample`."""
        return _sums(_NUMBERS[self.name](outputs.double(), targets.double(), reduction="none"))

    def total(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """See `Loss.total`."""
        value = _NUMBERS[self.name](outputs.double(), targets.double(), reduction="sum")
        return float(value), float(targets.numel())

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Loss.check`."""
        check_same_shape(outputs, targets, what=self.name)


@dataclass(frozen=True)
class OwnLoss(Loss):
    """A user's function.

    Attributes:
        function: see `LossFunction`.
    """

    function: LossFunction
    kind: Kind = "other"

    def training(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """See `Loss.training`."""
        return self.function(outputs, targets)

    def per_sample(self, outputs: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Loss.per_sample`."""
        values = [float(self.function(outputs[k : k + 1], targets[k : k + 1]).detach()) for k in range(len(targets))]
        return np.array(values), np.ones(len(values))

    def total(self, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """See `Loss.total`."""
        return float(self.function(outputs, targets).detach()) * len(targets), float(len(targets))


NAMES = ("cross_entropy", "binary_cross_entropy", *_NUMBERS)


def make_loss(
    loss: str | LossFunction,
    *,
    num_classes: int | None = None,
    label_smoothing: float = 0.0,
    weights: Tensor | None = None,
    ignore_index: int | None = None,
) -> Loss:
    """Return a loss by name, or of a user's function.

    Args:
        loss: one of `NAMES`, or a function.
        num_classes: the number of classes, for ``cross_entropy``.
        label_smoothing: for ``cross_entropy``, at least 0 and below 1.
        weights: for ``cross_entropy`` of the classes, for ``binary_cross_entropy`` of the positive targets.
        ignore_index: for ``cross_entropy``: the class number of targets that do not count.

    Raises:
        ConfigurationError: the name is unknown, or a setting does not belong to the loss.
    """
    if not callable(loss) and loss not in NAMES:
        raise ConfigurationError(f"unknown loss {loss!r}{did_you_mean(str(loss), NAMES)}", path="task.loss")
    if not 0 <= label_smoothing < 1:
        raise ConfigurationError(
            f"label_smoothing must be at least 0 and below 1, not {label_smoothing}", path="task.label_smoothing"
        )
    for name, used, losses in (
        ("label_smoothing", label_smoothing != 0, ("cross_entropy",)),
        ("ignore_index", ignore_index is not None, ("cross_entropy",)),
        ("class_weights", weights is not None, ("cross_entropy", "binary_cross_entropy")),
    ):
        if used and loss not in losses:
            raise ConfigurationError(f"{name} belongs to the loss {' or '.join(losses)} only", path=f"task.{name}")
    if callable(loss):
        return OwnLoss(loss)
    if loss == "cross_entropy":
        return CrossEntropy(num_classes, label_smoothing, weights, ignore_index)
    return BinaryCrossEntropy(weights) if loss == "binary_cross_entropy" else NumberLoss(loss)


def balanced_weights(targets: Tensor, kind: Kind, num_classes: int, ignore_index: int | None = None) -> Tensor:
    """Return the weights that give every class, or the positive and negative targets of a label, the same total.

    Classes: ``n / (classes * n_c)``, as scikit-learn's ``balanced``; labels: negatives / positives.

    Args:
        targets: of the training split.
        kind: ``classes`` or ``labels``.
        num_classes: the number of classes or labels.
        ignore_index: the class number of targets that do not count.

    Raises:
        DataError: a class does not occur in the training split.
    """
    if kind == "classes":
        counted = targets.flatten() if ignore_index is None else targets[targets != ignore_index]
        counts = torch.bincount(counted, minlength=num_classes).double()
        numerator = torch.full_like(counts, float(counts.sum()) / num_classes)
    else:
        counts = targets.double().sum(0)
        numerator = len(targets) - counts
    missing = torch.nonzero((counts == 0) | (numerator == 0)).flatten().tolist()
    if missing:
        raise DataError(
            f"class_weights: balanced needs every class in the training split; the counts of class {missing[0]} are "
            f"{int(counts[missing[0]])} of {len(targets)} samples"
        )
    return (numerator / counts).float()


def _sums(terms: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    flat = terms.reshape(len(terms), -1)
    return flat.sum(1).numpy(), np.full(len(flat), float(flat.shape[1]))
