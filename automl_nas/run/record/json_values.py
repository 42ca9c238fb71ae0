"""Values as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_UNCHANGED = frozenset((int, str, bool, type(None)))
_STRINGS = frozenset((str,))


def to_json_values(value: object) -> Any:
    """Return a value as the record gives it back: tuples as lists, NaN and infinite numbers as None.

    Raises:
        TypeError: the value is not JSON.
    """
    if type(value) in _UNCHANGED:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        if _UNCHANGED.issuperset(map(type, value)):
            return [*value]
        return [item if type(item) in _UNCHANGED else to_json_values(item) for item in value]
    if isinstance(value, (dict, Mapping)) and (
        _STRINGS.issuperset(map(type, value)) or all(isinstance(key, str) for key in value)
    ):
        return {key: item if type(item) in _UNCHANGED else to_json_values(item) for key, item in value.items()}
    if isinstance(value, str | int):
        return value
    raise TypeError(
        f"{value!r} is not JSON (numbers, strings, true, false, null, lists, and mappings whose keys are strings)"
    )
