"""JSON scalars: the values that options of decisions and architectures can have."""

from __future__ import annotations

import math
import sys
from enum import Enum
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
"""One option of a decision: a JSON scalar."""

_PLAIN = frozenset((str, int, bool, type(None)))


def plain_scalar(value: object) -> Scalar:
    """Return a value as a plain Python scalar, as JSON gives it back.

    A NumPy scalar, a member of an Enum and an instance of a subclass of str, int or float become their plain value.

    Raises:
        TypeError: JSON has no such value: NaN, infinity, and every other type.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value  # type: ignore[return-value]
    if isinstance(value, Enum):
        return plain_scalar(value.value)
    numpy = sys.modules.get("numpy")  # without NumPy there are no NumPy scalars
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} is not a JSON scalar, since JSON has no such number")
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if isinstance(value, bool) else int.__int__(value)
    if value is None:
        return None
    raise TypeError(f"{value!r} is a {kind.__name__}, not a JSON scalar (a string, a number, true, false or null)")
