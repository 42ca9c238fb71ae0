"""Checks that the outputs of a network are what a loss or a metric needs."""

from __future__ import annotations

import torch
from torch import Tensor

from automl_nas.errors import DataError


def check_class_outputs(
    outputs: Tensor, targets: Tensor, num_classes: int | None = None, ignore_index: int | None = None
) -> None:
    """Refuse outputs that are not one score for each class.

    Args:
        outputs: shape ``(batch, classes)``, or ``(batch, classes, *positions)`` for dense targets.
        targets: class numbers, shape ``(batch,)`` or ``(batch, *positions)``.
        num_classes: the number of classes; None: any number above the largest target.
        ignore_index: the class number of targets that do not count.

    Raises:
        DataError: a shape or type differs; the message contains both shapes and the way out.
    """
    shapes = _shapes(outputs, targets)
    if targets.is_floating_point():
        raise DataError(
            "class labels must be integers of shape (batch,) or (batch, *positions), and the "
            f"{shapes} ({targets.dtype})"
        )
    _check_floating(outputs)
    expected = (len(targets), *targets.shape[1:])
    places = f"(batch, {num_classes or 'classes'}{''.join(f', {side}' for side in targets.shape[1:])})"
    if outputs.dim() != targets.dim() + 1 or (outputs.shape[0], *outputs.shape[2:]) != expected:
        dense = outputs.dim() > targets.dim() + 1
        hint = (
            "reduce the positions with pooling and nn.Flatten, or use targets with one class for each position"
            if dense
            else "let the network return one score for each class"
        )
        raise DataError(f"the {shapes}, but the task needs outputs of shape {places}; {hint}")
    if num_classes is not None and outputs.shape[1] != num_classes:
        raise DataError(
            f"the networks have {outputs.shape[1]} outputs, and the task has {num_classes} classes; set the space's "
            f"num_classes, or change the last layer of the network (the {shapes})"
        )
    counted = targets if ignore_index is None else targets[targets != ignore_index]
    if len(counted) and not 0 <= int(counted.min()) <= int(counted.max()) < outputs.shape[1]:
        raise DataError(
            f"the targets contain the class numbers {int(counted.min())} to {int(counted.max())}, and the network has "
            f"{outputs.shape[1]} outputs, for the classes 0 to {outputs.shape[1] - 1}"
        )


def check_same_shape(outputs: Tensor, targets: Tensor, *, what: str) -> None:
    """Refuse outputs whose shape is not exactly that of the targets, also if they would broadcast.

    Args:
        outputs: of the network.
        targets: of the task, floating.
        what: the name of the loss or metric, for messages.

    Raises:
        DataError: a shape or type differs; the message contains both shapes and the way out.
    """
    _check_floating(outputs)
    shapes = _shapes(outputs, targets)
    if outputs.shape == targets.shape:
        return
    if outputs.dim() == targets.dim() + 1 and outputs.shape == (*targets.shape, 1):
        raise DataError(
            f"the {shapes}, which {what} would broadcast against each other into wrong pairs; give the targets the "
            f"shape {tuple(outputs.shape)} (targets[:, None]), or let the network return {tuple(targets.shape)} "
            "(squeeze(1))"
        )
    raise DataError(
        f"the {shapes}, but {what} needs equal shapes; let the network return one number for each target "
        f"(num_classes = {targets.shape[1] if targets.dim() > 1 else 1})"
    )


def check_label_targets(targets: Tensor) -> None:
    """Refuse targets of a multi-label task that are not 0 and 1, shape ``(batch, labels)``.

    Raises:
        DataError: the shape or a value differs.
    """
    if targets.dim() != 2:
        raise DataError(
            f"multi-label targets need the shape (samples, labels), not {tuple(targets.shape)}; for one label use "
            "targets[:, None]"
        )
    if not bool(((targets == 0) | (targets == 1)).all()):
        raise DataError("multi-label targets must be 0 or 1: whether a sample has the label")


def _check_floating(outputs: Tensor) -> None:
    if not outputs.is_floating_point():
        raise DataError(f"the network's outputs are {outputs.dtype}; return the scores, not the predicted classes")


def _shapes(outputs: Tensor, targets: Tensor) -> str:
    return f"outputs have the shape {tuple(outputs.shape)} and the targets {tuple(targets.shape)}"


def as_float(values: Tensor) -> Tensor:
    """Return values as float32, unless they are floating."""
    return values if values.is_floating_point() else values.to(torch.float32)
