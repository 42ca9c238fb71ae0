"""States in tests: how a checkpoint stores and loads them, and whether two are bit-equal."""

from __future__ import annotations

import io
import math
from typing import Any


def stored(state: Any) -> Any:
    """Return a state after it was saved and loaded as in a checkpoint, with ``weights_only=True``."""
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(first: Any, second: Any) -> bool:
    """Whether two states are equal; tensors must be bit-equal, NaN is equal to NaN."""
    import torch

    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and _equal(first, second)
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        return list(first) == list(second) and all(same(value, second[name]) for name, value in first.items())
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, float) and math.isnan(first):
        return math.isnan(second)
    return bool(first == second)


def _equal(first: Any, second: Any) -> bool:
    import torch

    return (
        first.shape == second.shape
        and torch.equal(first.isnan(), second.isnan())
        and torch.equal(first.nan_to_num(), second.nan_to_num())
    )


def require_plain(value: object, path: str) -> None:
    """Assert that a state consists of dicts with string keys, lists, JSON scalars and tensors.

    Args:
        value: a state.
        path: the name of the state in the message.

    Raises:
        AssertionError: the state contains something else; the message names its place.
    """
    import torch

    if isinstance(value, dict):
        for name, item in value.items():
            assert isinstance(name, str), f"{path}: the key {name!r} is not a string"
            require_plain(item, f"{path}[{name!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            require_plain(item, f"{path}[{index}]")
    else:
        plain = value is None or isinstance(value, str | int | float | bool | torch.Tensor)
        assert plain, f"{path}: {type(value).__name__} is neither a tensor nor a JSON value"
