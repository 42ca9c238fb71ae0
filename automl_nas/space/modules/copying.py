"""Copies of modules: shallow ones that share everything, and independent ones, faster than ``copy.deepcopy``.

With `clone`, extracting an ImageNet-size network takes a quarter of the time that ``copy.deepcopy`` of the same network
takes (10 of 40 ms; ``benchmarks/extraction.py``).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

_ATOMS = frozenset((int, float, complex, str, bool, bytes, type(None), type, FunctionType))
_CONTAINERS = frozenset((dict, OrderedDict, set, list))


def shallow_copy(module: nn.Module) -> nn.Module:
    """Return a module with the same attributes, Parameters and buffers, whose children can be replaced."""
    twin: nn.Module = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = module._modules.copy()
    return twin


def clone(module: nn.Module, memo: dict[int, Any], child: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Return an independent copy of a module.

    Args:
        module: what to copy.
        memo: object id -> its copy, as in ``copy.deepcopy``; shared objects stay shared.
        child: returns the copy of a child module.
    """
    copied = memo.get(id(module))
    if copied is not None:
        return copied  # type: ignore[no-any-return]
    if not is_plain(module):
        stand_in = shallow_copy(module)
        for name, each in module._modules.items():
            if each is not None:
                child_copy = child(each)
                stand_in._modules[name] = memo[id(child_copy)] = child_copy
        memo[id(module)] = copied = copy.deepcopy(stand_in, memo)
        return copied
    twin: nn.Module = object.__new__(type(module))
    memo[id(module)] = twin
    attributes = twin.__dict__
    # Children first: other attributes may refer to them and then use the copies in the memo.
    children = {name: None if each is None else child(each) for name, each in module._modules.items()}
    for name, value in module.__dict__.items():
        if name == "_modules":
            attributes[name] = children
        elif name in ("_parameters", "_buffers"):
            attributes[name] = {key: None if each is None else copy_tensor(each, memo) for key, each in value.items()}
        elif name != "_compiled_call_impl":
            attributes[name] = _copy_value(value, memo)
    return twin


def deep_copy(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return what ``copy.deepcopy(module, memo)`` returns, faster."""
    return clone(module, memo, lambda child: deep_copy(child, memo))


def on_meta(module: nn.Module) -> nn.Module:
    """Return a copy without data. Modules that share a tensor share it in the copy, unlike after ``to("meta")``."""
    memo: dict[int, Any] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty.detach()
    return deep_copy(module, memo)


def copy_tensor(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Return an independent copy of a Parameter or buffer, without its gradient; the same copy for the same tensor."""
    copied = memo.get(id(tensor))
    if copied is None:
        if type(tensor) is nn.Parameter:
            copied = nn.Parameter(tensor.detach().clone(), tensor.requires_grad)
        elif type(tensor) is Tensor:
            copied = tensor.detach().clone()
        else:
            copied = copy.deepcopy(tensor, memo)
        memo[id(tensor)] = copied
    return copied


def _copy_value(value: object, memo: dict[int, Any]) -> object:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if isinstance(value, tuple) and kind is tuple and all(type(item) in _ATOMS for item in value):
        return value
    if kind in _CONTAINERS and not value:
        return kind()
    return copy.deepcopy(value, memo)


def is_plain(module: nn.Module) -> bool:
    """Whether copying the attributes one by one gives the same copy as ``copy.deepcopy``.

    The methods of `nn.Module` are looked up each time: ``torch.compile`` replaces ``__setstate__`` when a process uses
    it first, and copies would be slow from then on.
    """
    kind: Any = type(module)
    return (
        getattr(kind, "__deepcopy__", None) is None
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getstate__ in (getattr(nn.Module, "__getstate__", None), getattr(object, "__getstate__", None))
        and kind.__setstate__ in (nn.Module.__setstate__, nn.Conv2d.__setstate__)
    )
