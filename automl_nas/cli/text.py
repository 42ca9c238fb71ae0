"""Architectures and tables as text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence

WIDTH = 100
"""The largest number of characters of a wrapped line."""


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
