"""Inputs and targets of samples in the types that networks, losses and metrics take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from automl_nas.errors import DataError
from automl_nas.evaluation.tasks.losses import Kind
from automl_nas.evaluation.tasks.outputs import check_label_targets


def as_tensor(value: Any, where: str) -> Tensor:
    """Return an array, tensor, number or sequence of numbers as a tensor on the CPU that shares its memory if possible.

    Args:
        value: the value.
        where: what it is, for messages.

    Raises:
        DataError: the value is something else.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or type(value).__module__.startswith("PIL."):
            raise TypeError
        # Tensors have neither negative strides nor another byte order, and warn of memory that is read-only.
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError):
        raise DataError(
            f"{where} is a {type(value).__name__}, and not a tensor or an array of numbers; convert it, such as an "
            "image with torchvision's ToImage and ToDtype(torch.float32, scale=True)"
        ) from None


def as_inputs(value: Any, where: str) -> Tensor:
    """Return inputs as float32, or as int64 if they are integers (tokens).

    Args:
        value: see `as_tensor`.
        where: what it is, for messages.

    Raises:
        DataError: the type is unsupported, or a value is NaN or infinite.
    """
    inputs = as_tensor(value, where)
    if inputs.dtype == torch.uint8:
        raise DataError(
            f"{where} is uint8, which may be pixels or tokens; pass pixels as float32 (x / 255) and tokens as int64"
        )
    if inputs.is_complex():
        raise DataError(f"{where} is complex; pass real and imaginary part as two channels (torch.view_as_real)")
    if inputs.is_floating_point() or inputs.dtype == torch.bool:
        inputs = inputs.to(torch.float32)
        _check_finite(inputs, where)
        return inputs
    inputs = inputs.to(torch.int64)
    if inputs.numel() and int(inputs.min()) < 0:
        raise DataError(f"{where} contains the integer {int(inputs.min())}; tokens must be at least 0")
    return inputs


def as_targets(value: Any, kind: Kind, where: str) -> Tensor:
    """Return targets as int64 (classes), or as float32 (labels and numbers); a user's own kind keeps its type.

    Args:
        value: see `as_tensor`.
        kind: what targets are.
        where: what it is, for messages.

    Raises:
        DataError: the type or a value does not fit the kind.
    """
    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype.kind in "US"):
        example = value if isinstance(value, str) else np.unique(value)[0].item()
        raise DataError(
            f"{where} is text, such as {example!r}; number the classes with numpy.unique(y, return_inverse=True), and "
            "give their names as class_names"
        )
    targets = as_tensor(value, where)
    if kind == "classes":
        if targets.is_floating_point() or targets.is_complex():
            raise DataError(f"{where} is {targets.dtype}, but classes are integers 0 .. k - 1; convert with .long()")
        return targets.to(torch.int64)
    if targets.is_complex():
        raise DataError(f"{where} is complex; targets must be real")
    if kind != "other" or targets.dtype in (torch.float64, torch.float16):
        targets = targets.to(torch.float32)
    if targets.is_floating_point():
        _check_finite(targets, where)
    return targets


def check_targets(targets: Tensor, kind: Kind, ignore_index: int | None, *, num_classes: int | None) -> int | None:
    """Check the targets of all samples, and return the number of outputs that a network needs.

    Args:
        targets: of all samples, shape ``(samples, ...)``.
        kind: what targets are.
        ignore_index: the class number of targets that do not count.
        num_classes: as set by the user; None: from the targets.

    Returns:
        None if only the user's own loss knows.

    Raises:
        DataError: a class number is negative, or class numbers have gaps and ``num_classes`` is not set.
    """
    if kind == "labels":
        check_label_targets(targets)
        return targets.shape[1]
    if kind == "numbers":
        return targets.shape[1] if targets.dim() > 1 else 1
    if kind == "other":
        return num_classes
    present = torch.unique(targets)
    if ignore_index is not None:
        present = present[present != ignore_index]
    if not len(present):
        raise DataError("every target has the ignored class number; there is nothing to learn")
    low, high = int(present[0]), int(present[-1])
    if low < 0:
        raise DataError(f"the targets contain the class number {low}; classes are 0 .. k - 1 (see also ignore_index)")
    if num_classes is not None:
        if high >= num_classes:
            raise DataError(f"the targets contain the class number {high}, but num_classes is {num_classes}")
        return num_classes
    if targets.dim() == 1 and len(present) != high + 1:
        raise DataError(
            f"the targets have {len(present)} different class numbers from {low} to {high}; renumber them to 0 .. k - "
            "1 with numpy.unique(y, return_inverse=True), or set num_classes"
        )
    if high == 0:
        raise DataError("all targets are of class 0; classification needs at least two classes")
    return high + 1


def check_given_classes(targets: Tensor, count: int, ignore_index: int | None) -> None:
    """Check that the splits that are given beside the training data have no classes above its classes.

    Args:
        targets: classes; the first ones are of the training data, the others of the given splits.
        count: number of samples of the training data.
        ignore_index: the class number of targets that do not count.

    Raises:
        DataError: they have one.
    """
    own, others = targets[:count], targets[count:]
    if ignore_index is not None:
        own, others = own[own != ignore_index], others[others != ignore_index]
    if own.numel() and others.numel() and others.max() > own.max():
        raise DataError(
            f"a given split contains the class number {int(others.max())}, and the training data only classes up to "
            f"{int(own.max())}; remove these samples, or set num_classes if the network is to have an output for them"
        )


def _check_finite(values: Tensor, where: str) -> None:
    finite = torch.isfinite(values)
    if not bool(finite.all()):
        place = torch.nonzero(~finite)[0].tolist() if values.dim() else []
        raise DataError(
            f"{where} is {values[tuple(place)].item()} at the index {place} ({int((~finite).sum())} such values); "
            "remove or replace missing values first"
        )
