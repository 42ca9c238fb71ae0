"""Numbers, durations, architectures and tables as text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

WIDTH = 100
"""The largest number of characters of a wrapped line."""


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


def architecture(values: Mapping[str, object], indent: str = "") -> str:
    """Return decisions as ``name=value``, in wrapped lines."""
    parts = [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}".replace(" ", "\0")
        for name, value in values.items()
    ]
    wrapped = textwrap.fill(
        " ".join(parts),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapped.replace("\0", " ")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, indent: str = "") -> list[str]:
    """Return the lines of a table.

    Args:
        header: a title for each column.
        rows: a string for each column.
        left: the number of columns, counted from the first, that are left-aligned; the others are right-aligned.
        indent: the beginning of each line.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            text.ljust(width) if column < left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
