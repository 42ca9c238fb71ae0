"""Derives decisions and codes from the columns of a table."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.space import Choice, Ordinal
from automl_nas_benchmarks.tables.coding import Coding

UNNAMED = "choice_"
"""Prefix of the names of decisions in a column of codes; the position of the symbol follows."""

_SEPARATOR = "|"  # between the symbols of a code that is assembled from several columns
_FALLBACK_SEPARATOR = "\x1f"  # if a symbol contains that character
_WRITTEN_AS_NUMBER = re.compile(r"\d+\.0*|\d(\.\d*)?[eE]\+?\d+")


@dataclass(frozen=True)
class Names:
    """Names that the coding of a table needs.

    Attributes:
        table: name of the table, for messages.
        ordered: names of the decisions whose options are ordered numbers.
    """

    table: str
    ordered: frozenset[str]


def coding_of_codes(
    names: Names, columns: Mapping[str, Sequence[Any]], separator: str
) -> tuple[Coding, tuple[str, ...]]:
    """Return the coding of columns of codes, and the code of each row.

    The symbols of several columns are joined in the order of the columns. Decisions are called ``choice_1``,
    ``choice_2``, ...; their options are the symbols that occur at their position.

    Args:
        names: name of the table, and ordered decisions.
        columns: name of a column -> its cells.
        separator: string between the symbols of a code; empty: each character is a symbol.

    Raises:
        DataError: a cell is not a string, or the codes of a column have different lengths.
    """
    split = [_split_codes(names, column, cells, separator) for column, cells in columns.items()]
    rows = [[symbol for parts in row for symbol in parts] for row in zip(*split, strict=True)]
    symbols = {f"{UNNAMED}{place + 1}": [row[place] for row in rows] for place in range(len(rows[0]))}
    return _coding(names, symbols, separator), tuple(map(separator.join, rows))


def _split_codes(names: Names, column: str, cells: Sequence[Any], separator: str) -> list[list[str]]:
    """Return the symbols of the codes of a column, row by row."""
    where = f"the column '{column}' of the table {names.table}"
    for row, cell in enumerate(cells, start=1):
        if not isinstance(cell, str):
            raise DataError(
                f"{where} has {cell!r} in row {row}, but a code must be a string (as numbers, 0121 equals 121); "
                "write the column as text"
            )
    codes = tuple(str(cell).strip() for cell in cells)
    split = [code.split(separator) if separator else list(code) for code in codes]
    length = Counter(map(len, split)).most_common(1)[0][0]
    for row, (code, parts) in enumerate(zip(codes, split, strict=True), start=1):
        if not code:
            raise DataError(f"{where} is empty in row {row}")
        if not separator and _WRITTEN_AS_NUMBER.fullmatch(code):
            raise DataError(
                f"{where} has the number '{code}' in row {row}: a program has converted the codes to numbers, and "
                "leading zeros are lost; write the column as text"
            )
        if len(parts) != length:
            lost = not separator and len(parts) < length and all(text.isdigit() for text in codes)
            hint = (
                "; leading zeros count, and programs that convert codes to numbers lose them: store the column as text"
                if lost
                else "; set 'separator' to the string between the symbols, if there is one"
            )
            raise DataError(f"{where} has {len(parts)} symbols in row {row}, '{code}', and elsewhere {length}{hint}")
    return split


def coding_of_columns(names: Names, cells: Mapping[str, Sequence[Any]]) -> tuple[Coding, tuple[str, ...]]:
    """Return a coding with one decision for each column, and the code of each row.

    Args:
        names: name of the table, and ordered decisions.
        cells: name of a column -> its cells.

    Raises:
        DataError: a cell is empty.
    """
    columns: dict[str, list[str]] = {}
    for name, column in cells.items():
        columns[name] = ["" if cell is None else str(cell).strip() for cell in column]
        if "" in columns[name]:
            raise DataError(
                f"the column '{name}' of the table {names.table} is empty in row {columns[name].index('') + 1}, but a "
                "decision needs an option in every architecture"
            )
    ambiguous = any(_SEPARATOR in symbol for column in columns.values() for symbol in column)
    separator = _FALLBACK_SEPARATOR if ambiguous else _SEPARATOR
    codes = tuple(separator.join(row) for row in zip(*columns.values(), strict=True))
    return _coding(names, columns, separator), codes


def _coding(names: Names, columns: Mapping[str, Sequence[str]], separator: str) -> Coding:
    """Return the coding of decisions whose symbols in each row are given; numbers are sorted by value."""
    for name in sorted(names.ordered):
        if name not in columns:
            raise ConfigurationError(
                f"the table {names.table} has no decision '{name}'{did_you_mean(name, columns)}", path="ordered"
            )
    decisions: dict[str, Choice] = {}
    symbols: dict[str, tuple[str, ...]] = {}
    for name, column in columns.items():
        own = sorted(set(column))
        numbers = [_number(symbol) for symbol in own]
        if None not in numbers:
            own = [symbol for _, symbol in sorted(zip(numbers, own, strict=True), key=lambda pair: (pair[0], pair[1]))]
        if name in names.ordered:
            decisions[name] = _ordinal(names, name, own)
        else:
            decisions[name] = Choice(tuple(own))
        symbols[name] = tuple(own)
    return Coding(decisions, symbols, separator)


def _ordinal(names: Names, name: str, symbols: Sequence[str]) -> Ordinal:
    numbers = []
    for symbol in symbols:
        number = _number(symbol)
        if number is None:
            raise DataError(f"'{name}' of the table {names.table} is ordered, but '{symbol}' is not a number")
        if number in numbers:
            raise DataError(f"'{name}' of the table {names.table} writes {number} in two ways, one of them '{symbol}'")
        numbers.append(number)
    return Ordinal(tuple(numbers))


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
