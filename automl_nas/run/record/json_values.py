"""What JSON can hold of a value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_AS_IT_IS = frozenset((int, str, bool, type(None)))


def to_json_values(value: object) -> Any:
    """Return a value as the record gives it back: tuples as lists, what is NaN or infinite as None.

    Raises:
        TypeError: it is not JSON.
    """
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        if _AS_IT_IS.issuperset(map(type, value)):
            return [*value]
        return [item if type(item) in _AS_IT_IS else to_json_values(item) for item in value]
    if isinstance(value, (dict, Mapping)) and all(isinstance(key, str) for key in value):
        return {key: item if type(item) in _AS_IT_IS else to_json_values(item) for key, item in value.items()}
    if isinstance(value, str | int):
        return value
    raise TypeError(f"{value!r} is not JSON (numbers, texts, true, false, null, lists, mappings with texts as keys)")
