"""Passes on meta tensors, which have a shape and no data, in little time: `MetaPass`, `meta_result`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class MetaPass(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """In this context operators on meta tensors that recur take little time; see `meta_result`.

    Example::

        with torch.no_grad(), MetaPass():
            shape = network(torch.empty(1, 3, 224, 224, device="meta")).shape
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return meta_result(func, args, kwargs or {})


@dataclass(frozen=True)
class _New:
    """The form of a tensor that an operator allocates."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype


_Result: TypeAlias = _New | None
"""A new tensor; None: the first argument, changed in place."""

_MOST_REMEMBERED = 1 << 14
_PLAIN = (bool, int, float, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))

_UNKNOWN: Any = object()

_remembered: dict[Hashable, _Result | tuple[_Result, ...]] = {}


def meta_result(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call an operator, or return an equal result on meta tensors if an equal call was made before.

    Torch computes the shape of a result on meta tensors in Python, which takes 0.1 to 4 ms for an operator. The
    networks of a space call few operators with different shapes, so the results of earlier calls are remembered:
    shapes, strides and types. Calls with tensors that have data are always made.

    Args:
        func: the operator, an overload, as a `TorchDispatchMode` receives it.
        args: its positional arguments.
        kwargs: its other arguments.
    """
    arguments = _form((args, *kwargs.items())) if _can_be_remembered(func) else None
    if arguments is None:
        return func(*args, **kwargs)
    call = func, arguments, torch.get_default_dtype()  # that of whole numbers divided by each other, for example
    results = _remembered.get(call, _UNKNOWN)
    if results is not _UNKNOWN:
        return tuple(_again(each, args) for each in results) if isinstance(results, tuple) else _again(results, args)
    first = args[0] if args else None
    before = _form(first)
    out = func(*args, **kwargs)
    outs = out if isinstance(out, tuple) else (out,)
    # Operators such as `transpose_` change the form of their argument.
    if all(map(_is_meta, outs)) and _form(first) == before:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        forms = tuple(None if each is first else _New(each.shape, each.stride(), each.dtype) for each in outs)
        _remembered[call] = forms if isinstance(out, tuple) else forms[0]
    return out


@lru_cache(None)
def _can_be_remembered(func: Any) -> bool:
    """Return whether an operator allocates its results, or returns its first argument, which it changes."""
    schema = func._schema
    inputs = [argument.alias_info for argument in schema.arguments]
    outputs = [output.alias_info for output in schema.returns]
    types = {str(output.type) for output in schema.returns}
    # The result of _unsafe_view has the memory of its argument, which its schema does not contain.
    if func.namespace != "aten" or types != {"Tensor"} or func.overloadpacket.__name__ == "_unsafe_view":
        return False
    if inputs and inputs[0] is not None and inputs[0].is_write:
        return len(outputs) == 1 and outputs[0] is not None and not any(inputs[1:])
    return not any([*inputs, *outputs])


def _again(result: _Result, args: tuple[Any, ...]) -> Tensor:
    if result is None:
        first: Tensor = args[0]
        return first
    return torch.empty_strided(result.shape, result.stride, dtype=result.dtype, device="meta")


def _is_meta(value: object) -> bool:
    # Of subclasses, such as the tensors of torch.export, more may matter.
    return type(value) in (Tensor, nn.Parameter) and value.is_meta  # type: ignore[attr-defined]


def _form(value: Any) -> Hashable | None:
    """Return what the form of a result depends on; None where it may depend on more, such as on the values."""
    if isinstance(value, Tensor):
        return (value.shape, value.stride(), value.dtype) if _is_meta(value) else None
    if isinstance(value, tuple | list):
        parts = tuple(map(_form, value))
        return None if None in parts else parts
    # With the type, since 1 == 1.0 == True.
    return (type(value), value) if isinstance(value, _PLAIN) else None
