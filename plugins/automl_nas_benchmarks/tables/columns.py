"""From columns of texts to decisions and codes."""

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
"""Before the place of a decision that a table does not name."""

_BETWEEN = "|"  # symbols of a code that is put together from columns
_NEVER = "\x1f"  # where some symbol holds that
_WRITTEN_AS_NUMBER = re.compile(r"\d+\.0*|\d(\.\d*)?[eE]\+?\d+")


@dataclass(frozen=True)
class Names:
    """What the coding of a table is made for.

    Attributes:
        table: its name, for messages.
        ordered: decisions whose options are numbers in order.
    """

    table: str
    ordered: frozenset[str]


def coding_of_codes(names: Names, column: str, cells: Sequence[Any], separator: str) -> tuple[Coding, tuple[str, ...]]:
    """Return how the texts of a column write architectures, and those texts.

    Decisions are called ``choice_1``, ``choice_2``, ...; their options are the symbols that occur in their place.

    Raises:
        DataError: a cell that is no text, or codes of different lengths.
    """
    where = f"the column '{column}' of the table {names.table}"
    for row, cell in enumerate(cells, start=1):
        if not isinstance(cell, str):
            raise DataError(
                f"{where} holds {cell!r} in row {row}, and a code is text: as numbers '0121' and '121' are the same; "
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
                f"{where} holds '{code}' in row {row}, a number: some program took the codes for numbers, and leading "
                "zeros are lost; write the column as text"
            )
        if len(parts) != length:
            lost = not separator and len(parts) < length and all(text.isdigit() for text in codes)
            hint = (
                "; leading zeros matter, and programs that take codes for numbers lose them: read and write the column "
                "as text"
                if lost
                else "; set 'separator' to what stands between the symbols, if anything does"
            )
            raise DataError(f"{where} has {len(parts)} symbols in row {row}, '{code}', and elsewhere {length}{hint}")
    found = {f"{UNNAMED}{place}": [parts[place - 1] for parts in split] for place in range(1, length + 1)}
    return _coding(names, found, separator), codes


def coding_of_columns(names: Names, cells: Mapping[str, Sequence[Any]]) -> tuple[Coding, tuple[str, ...]]:
    """Return a coding with one decision for each column, and the code of each row.

    Raises:
        DataError: an empty cell.
    """
    found: dict[str, list[str]] = {}
    for name, column in cells.items():
        found[name] = ["" if cell is None else str(cell).strip() for cell in column]
        if "" in found[name]:
            raise DataError(
                f"the column '{name}' of the table {names.table} is empty in row {found[name].index('') + 1}, and a "
                "decision has an option in every architecture"
            )
    between = _BETWEEN if not any(_BETWEEN in text for column in found.values() for text in column) else _NEVER
    codes = tuple(between.join(row) for row in zip(*found.values(), strict=True))
    return _coding(names, found, between), codes


def _coding(names: Names, found: Mapping[str, Sequence[str]], separator: str) -> Coding:
    for name in sorted(names.ordered):
        if name not in found:
            raise ConfigurationError(
                f"the table {names.table} has no decision '{name}'{did_you_mean(name, found)}", path="ordered"
            )
    decisions: dict[str, Choice] = {}
    symbols: dict[str, tuple[str, ...]] = {}
    for name, column in found.items():
        texts = sorted(set(column))
        numbers = [_number(text) for text in texts]
        if None not in numbers:
            texts = [text for _, text in sorted(zip(numbers, texts, strict=True), key=lambda pair: (pair[0], pair[1]))]
        if name in names.ordered:
            decisions[name] = _ordinal(names, name, texts)
        else:
            decisions[name] = Choice(tuple(texts))
        symbols[name] = tuple(texts)
    return Coding(decisions, symbols, separator)


def _ordinal(names: Names, name: str, texts: Sequence[str]) -> Ordinal:
    numbers = []
    for text in texts:
        number = _number(text)
        if number is None:
            raise DataError(f"'{name}' of the table {names.table} is to be ordered, and '{text}' is no number")
        if number in numbers:
            raise DataError(f"'{name}' of the table {names.table} writes {number} in two ways, one of them '{text}'")
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
