"""What is handed in and what is handed out: whether it was changed, and whether it is what the contract says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem
from automl_nas.testing.contract import require


def fingerprint(value: Any) -> Any:
    """Return a value that changes when the data of an object changes: of dataclasses, mappings, tensors, spaces.

    Of a `SearchSpace` and a `Problem` it contains what users of them see: they may cache what they compute.
    """
    if isinstance(value, torch.Tensor):
        return "tensor", str(value.dtype), tuple(value.shape), digest(value)
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, SearchSpace):
        decisions = [(name, repr(decision)) for name, decision in value.decisions.items()]
        return "space", decisions, tuple(value.input_shape), value.segments()
    if isinstance(value, Problem):
        return "problem", json.dumps(value.describe()), sorted(value.cost_models), fingerprint(list(value.constraints))
    if isinstance(value, torch.nn.Module):
        modes = [(name, type(part).__qualname__, part.training) for name, part in value.named_modules()]
        return "module", modes, fingerprint(dict(value.state_dict()))
    if isinstance(value, Architecture):
        return "architecture", [(name, repr(item)) for name, item in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {name: item for name, item in vars(value).items() if not callable(item)}
        return type(value).__qualname__, fingerprint(fields)
    if isinstance(value, Mapping):
        return "mapping", [(str(name), fingerprint(item)) for name, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "sequence", [fingerprint(item) for item in value]
    return type(value).__qualname__, repr(value) if isinstance(value, str | bytes | int | float | bool | None) else ""


def digest(tensor: torch.Tensor) -> str:
    """Return a digest of the bytes of a tensor."""
    plain = tensor.detach().cpu().contiguous()
    return hashlib.sha256(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"").hexdigest()


def require_json(value: object, what: str, most: int) -> None:
    """Assert that a value is plain JSON of a bounded size: NaN and infinity are not, nor are NumPy's numbers.

    Args:
        value: the value.
        what: its name in the message.
        most: the largest number of characters of its JSON text.
    """
    _require_plain(value, what)
    size = len(json.dumps(value, default=_unfrozen))
    require(size <= most, f"{what} has {size:,} characters of JSON, at most {most:,} are allowed")


def _unfrozen(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value)


def _require_plain(value: object, what: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            require(type(name) is str, f"{what} has the key {name!r}, which has another type than str")
            _require_plain(item, f"{what}[{name!r}]")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            _require_plain(item, f"{what}[{position}]")
    elif type(value) is float:
        require(math.isfinite(value), f"{what} is {value}, which JSON cannot hold")
    else:
        require(value is None or type(value) in (str, int, bool), f"{what} is a {type(value).__name__}, not JSON")


def state_size(state: object) -> int:
    """Return the approximate number of bytes of a state of tensors and JSON values."""
    if isinstance(state, torch.Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(len(str(name)) + state_size(item) for name, item in state.items())
    if isinstance(state, list | tuple):
        return sum(8 + state_size(item) for item in state)
    return len(state) if isinstance(state, str) else 8
