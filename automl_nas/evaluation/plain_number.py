"""Numbers that components return, as plain Python numbers."""

from __future__ import annotations


def plain_number(value: object) -> int | float:
    """Return a number as an int or a float of Python; NaN and infinity are numbers here.

    NumPy scalars and arrays and tensors of one element become their value.

    Raises:
        TypeError: the value is not a number: a string, a boolean, or another type.
    """
    if type(value) is float or type(value) is int:
        return value
    item = getattr(value, "item", None)
    plain = value
    if callable(item):
        try:
            plain = item()
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"{value!r}, no single number") from None
    if isinstance(plain, bool | str | bytes | bytearray):
        raise TypeError(f"{value!r}, no number but a {type(value).__name__}")
    if isinstance(plain, int):
        return int.__int__(plain)
    try:
        return float(plain)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{value!r}, no number but a {type(value).__name__}") from None
