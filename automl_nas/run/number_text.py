"""Numbers and durations as text."""

from __future__ import annotations

from collections.abc import Sequence

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def exact(value: float) -> str:
    """Return a whole number with all digits, in groups of three; any other number with six significant digits."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.6g}"


def human(value: float) -> str:
    """Return four significant digits and a prefix for a power of 1,000: ``322.9M``."""
    for scale, prefix in _PREFIXES:
        if abs(value) >= scale:
            return f"{value / scale:.4g}{prefix}"
    return f"{value:.4g}"


def cost(value: float) -> str:
    """Return a cost with all digits, and with a prefix if it is 10,000 or more: ``322,918,720 (322.9M)``."""
    return f"{exact(value)} ({human(value)})" if abs(value) >= 10_000 else exact(value)


def measured(value: float, interval: Sequence[float] | None = None) -> str:
    """Return a metric with its interval: ``0.9250 [0.8932, 0.9478]``."""
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval is not None else "")


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``1.4 s``, ``2 min 5 s``, ``3 h 20 min``, ``2 d 4 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 and seconds != int(seconds) else f"{int(seconds)} s"
    for size, unit, small, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // small)} {part}"
    raise AssertionError("unreachable")
