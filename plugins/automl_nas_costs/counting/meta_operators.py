"""Operators on meta tensors whose result needs no call of torch: `result_of_same_shape`, `result_of_equal_call`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A meta tensor has a shape and no data. Torch computes the shape of a result in Python, which takes most of the time of
# a pass; the most frequent operators keep their operand's shape.
_UNARY = frozenset(("elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "sigmoid"))
_UNARY |= frozenset(("silu", "softplus", "tanh"))
_BINARY = frozenset(("add", "mul", "sub"))


def result_of_same_shape(name: str, args: tuple[Any, ...]) -> Any:
    """Return the result on meta tensors of an operator that keeps its operand's shape; None for any other operator.

    Args:
        name: of the ATen operator, without its overload; a trailing ``_`` marks an in-place operator.
        args: the operator's positional arguments.
    """
    first = args[0] if args else None
    if not isinstance(first, Tensor) or not first.is_meta or not first.is_floating_point():
        return None
    if name == "native_batch_norm":
        return first.new_empty(first.shape), first.new_empty(0), first.new_empty(0)
    plain = name.rstrip("_")
    if plain in _BINARY and len(args) > 1:
        second = args[1]
        if not isinstance(second, Tensor) or second.shape != first.shape or second.dtype != first.dtype:
            return None
    elif plain not in _UNARY:
        return None
    return first if name.endswith("_") else first.new_empty(first.shape)


# Operators that allocate their result, whose shape follows from those of tensors and from the other arguments.
_ALLOCATING = frozenset(("_adaptive_avg_pool2d", "_softmax", "addmm", "avg_pool2d", "bmm", "cat", "convolution"))
_ALLOCATING |= frozenset(("max_pool2d_with_indices", "mean", "mm", "native_group_norm", "native_layer_norm"))
_MOST_REMEMBERED = 4096


@dataclass(frozen=True)
class _Form:
    shape: torch.Size
    dtype: torch.dtype


_remembered: dict[Hashable, _Form | tuple[_Form, ...]] = {}


def result_of_equal_call(func: Any, args: tuple[Any, ...]) -> Any:
    """Call an ATen operator, or return an equal result on meta tensors if an equal call was made before.

    The networks of a space call few operators with different shapes, and torch computes each shape for some 0.1 ms.

    Args:
        func: the operator, an overload.
        args: the operator's positional arguments; it is called with no others.
    """
    arguments = _form(args) if func.overloadpacket.__name__ in _ALLOCATING else None
    if arguments is None:
        return func(*args)
    call = func, arguments
    if call in _remembered:
        forms = _remembered[call]
        if isinstance(forms, tuple):
            return tuple(torch.empty(form.shape, dtype=form.dtype, device="meta") for form in forms)
        return torch.empty(forms.shape, dtype=forms.dtype, device="meta")
    out = func(*args)
    results = out if isinstance(out, tuple) else (out,)
    if all(isinstance(each, Tensor) and each.is_meta and each.is_contiguous() for each in results):
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        written = tuple(_Form(each.shape, each.dtype) for each in results)
        _remembered[call] = written if isinstance(out, tuple) else written[0]
    return out


def _form(value: Any) -> Hashable | None:
    """Return what the form of a result depends on; None where it may depend on more, such as on the values."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if value.is_meta else None
    if isinstance(value, tuple | list):
        parts = tuple(map(_form, value))
        return None if None in parts else parts
    # With the type, since 1 == 1.0 == True.
    return (type(value), value) if value is None or isinstance(value, bool | int | float | torch.dtype) else None
