"""Operators on meta tensors whose result is known without asking torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# A meta tensor has a shape and no data. Torch works the shape of a result out in Python, which takes most of the time
# of a pass; the commonest operators keep their operand's shape.
_UNARY = frozenset(("elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "relu", "sigmoid"))
_UNARY |= frozenset(("silu", "softplus", "tanh"))
_BINARY = frozenset(("add", "mul", "sub"))


def keeps_shape(name: str, args: tuple[Any, ...]) -> Any:
    """Return the result of an operator that keeps its operand's shape on meta tensors; None if it is another one.

    Args:
        name: of the ATen operator, without overload; a trailing ``_`` means in place.
        args: its positional arguments.
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
