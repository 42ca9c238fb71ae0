"""Operators on meta tensors whose result needs no call of torch."""

from __future__ import annotations

from typing import Any

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
