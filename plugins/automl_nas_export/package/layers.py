"""Layers of torch as source: the call of the constructor that makes a layer."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import nn

WIDTH: Final = 100
"""Calls longer than this are written on several lines."""

_EXTRA: Final = {"device", "dtype", "_weight", "_freeze", "_random_samples", "process_group", "min_value", "max_value"}
_BIASES: Final = ("bias", "in_proj_bias")
_RECURRENT: Final = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


class NoSourceError(Exception):
    """A module cannot be written as source; the message names it and the reason."""


def torch_layer(module: nn.Module) -> str | None:
    """Return the call that makes a layer of torch, e.g. ``nn.Conv2d(3, 8, 3)``; None if there is no such call.

    The arguments are those whose values differ from the defaults. The call is tried: it must make a layer of equal
    attributes and tensors.
    """
    name = type(module).__name__
    if not type(module).__module__.startswith("torch.nn.modules.") or getattr(nn, name, None) is not type(module):
        return None
    arguments = _arguments(module)
    if arguments is None:
        return None
    text = call(f"nn.{name}", arguments)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            built = eval(text, {"nn": nn, "torch": torch, "inf": float("inf")})  # noqa: S307 - our own text
    except Exception:
        return None
    return text if _alike(module, built) else None


def _arguments(module: nn.Module) -> list[str] | None:
    signature = inspect.signature(type(module).__init__).parameters
    if isinstance(module, nn.RNNBase):
        names = {name: inspect.Parameter.empty if name.endswith("size") else None for name in _RECURRENT}
        defaults: dict[str, Any] = {**names, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        defaults["bidirectional"] = False
        if isinstance(module, nn.LSTM):
            defaults["proj_size"] = 0
        if isinstance(module, nn.RNN):
            defaults["nonlinearity"] = "tanh"
    else:
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if any(parameter.kind in kinds for parameter in signature.values()):
            parameters = {}
        else:
            parameters = {name: p for name, p in signature.items() if name != "self" and name not in _EXTRA}
        defaults = {name: p.default for name, p in parameters.items()}
    written, positional = [], True
    for name, default in defaults.items():
        try:
            value = _value(module, name, default)
        except AttributeError:
            return None
        required = default is inspect.Parameter.empty
        if not required and _same(value, default):
            positional = False
            continue
        try:
            text = literal(_short(module, name, value))
        except NoSourceError:
            return None
        shown = positional and (required or name in ("stride", "padding", "kernel_size"))
        written.append(text if shown else f"{name}={text}")
        positional = positional and shown
    return written


def _value(module: nn.Module, name: str, default: object) -> Any:
    if name == "bias" and isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
        # Without weights there is no bias either; torch before 2.12 has no argument of this name for some of them.
        return module._parameters["bias"] is not None if module._parameters["weight"] is not None else default
    if name == "bias" and not isinstance(vars(module).get("bias"), bool):
        owner = next((each for each in _BIASES if each in module._parameters), None)
        if owner is not None:
            return module._parameters[owner] is not None
        return default
    if name == "init":  # of PReLU: the weights replace it
        return default
    if name in ("add_bias_kv",):
        return getattr(module, "bias_k", None) is not None
    return getattr(module, name)


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, tuple) and isinstance(default, int | float) and not isinstance(default, bool):
        return all(item == default for item in value)
    return type(value) is type(default) and bool(value == default)


def _short(module: nn.Module, name: str, value: Any) -> Any:
    """Return ``3`` for ``(3, 3)``, which constructors of convolutions and pools expand."""
    expand = isinstance(module, nn.modules.conv._ConvNd) and name != "padding_mode"
    if expand and isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]
    return value


def _alike(module: nn.Module, built: nn.Module) -> bool:
    one, other = _plain(module), _plain(built)
    shapes = [
        {name: (tensor.shape, tensor.dtype) for name, tensor in (*each.named_parameters(), *each.named_buffers())}
        for each in (module, built)
    ]
    return repr(module) == repr(built) and one == other and shapes[0] == shapes[1]


def _plain(module: nn.Module) -> dict[str, object]:
    """Return the attributes of a layer that are plain values."""
    return {
        name: repr(value)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and name != "training"
        and isinstance(value, bool | int | float | str | tuple | None)
    }


def literal(value: Any) -> str:
    """Return the expression of plain values.

    Raises:
        NoSourceError: a value is not plain.
    """
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, int | float):
        text = repr(value)
        return f'float("{text}")' if text.lstrip("-") in ("inf", "nan") else text
    if isinstance(value, tuple | list):
        inner = ", ".join(literal(item) for item in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    raise NoSourceError(f"{value!r:.60} is not a plain value")


def call(name: str, arguments: Sequence[str], brackets: str = "()") -> str:
    """Return a call on one line, or on several if it is long."""
    short = f"{name}{brackets[0]}{', '.join(arguments)}{brackets[1]}"
    if "\n" not in short and len(short) <= WIDTH and len(arguments) <= 8:
        return short
    inner = "".join(f"\n{argument},".replace("\n", "\n    ") for argument in arguments)
    return f"{name}{brackets[0]}{inner}\n{brackets[1]}"
