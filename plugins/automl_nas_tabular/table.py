"""Reading a CSV file: columns of numbers or of text, with errors that name line and column."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from automl_nas.errors import DataError, did_you_mean

Cell = float | str | None
"""A number, a string, or None for a missing value."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_SHARE = 0.5
"""A column of which more than this share are numbers is a column of numbers: other cells are errors."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: of the column.
        cells: one for each row; numbers only, or strings only, besides None.
        numeric: whether the cells are numbers.
        chosen: whether the user says that the cells are text.
    """

    name: str
    cells: list[Cell]
    numeric: bool
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """The columns of a CSV file.

    Attributes:
        path: of the file.
        columns: name -> column, in the order of the file.
        lines: the line of the file of each row, counted from 1.
    """

    path: Path
    columns: dict[str, Column]
    lines: list[int]

    def column(self, name: str, setting: str) -> Column:
        """Return a column.

        Raises:
            DataError: the table does not have it.
        """
        if name not in self.columns:
            raise DataError(f"{setting}: {self.path} has no column '{name}'{did_you_mean(name, self.columns)}")
        return self.columns[name]

    def without(self, rows: set[int]) -> Table:
        """Return the table without some rows."""
        remaining = [row for row in range(len(self.lines)) if row not in rows]
        columns = {
            name: replace(column, cells=[column.cells[row] for row in remaining])
            for name, column in self.columns.items()
        }
        return Table(self.path, columns, [self.lines[row] for row in remaining])


def read_table(path: Path, separator: str, missing_values: Sequence[str], text_columns: Sequence[str]) -> Table:
    """Read a CSV file with a header (RFC 4180, UTF-8 with or without a byte order mark).

    Args:
        path: of the file.
        separator: between cells, one character.
        missing_values: cells that are missing values, without surrounding spaces.
        text_columns: columns whose cells are text, also if they look like numbers.

    Raises:
        DataError: the file cannot be read, a row has another number of cells than the header, or a cell of a column of
            numbers is not a number; the message contains line and column.
    """
    path = Path(path).expanduser()
    rows: list[list[str]] = []
    lines: list[int] = []
    if not path.exists():
        raise DataError(
            f"{path.absolute()} does not exist; set path to a CSV file (a relative path starts at the current "
            "directory)"
        )
    if not path.is_file():  # a pipe would block for ever, and the file is read more than once
        raise DataError(f"{path.absolute()} is not an ordinary file; set path to a CSV file")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue  # an empty line
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, but the header has {len(header)} "
                        "columns; put cells with a separator into quotation marks, or set separator"
                    )
                rows.append([cell.strip() for cell in cells])
                lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path.absolute()} cannot be read as a CSV file in UTF-8: {error}") from error
    _check_header(path, header, separator)
    if not rows:
        raise DataError(f"{path} has no rows below its header")
    table = Table(path, {}, lines)
    for position, name in enumerate(header):
        cells = [row[position] for row in rows]
        table.columns[name] = _column(table, name, cells, frozenset(missing_values), name in text_columns)
    return table


def decimal_commas(table: Table, column: Column) -> str:
    """Return the end of a message if most strings of a column are numbers with a decimal comma, else an empty one."""
    present = [(line, cell) for line, cell in zip(table.lines, column.cells, strict=True) if cell is not None]
    numbers = [(line, cell) for line, cell in present if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell)]
    if not numbers or len(numbers) <= _SHARE * len(present):
        return ""
    line, cell = numbers[0]
    return (
        f"; most cells look like numbers with a decimal comma, such as {cell!r} in line {line}: write them with a "
        "decimal point"
    )


def _check_header(path: Path, header: Sequence[str], separator: str) -> None:
    if len(header) < 2:
        others = [each for each in ";,\t|" if each != separator and header and each in header[0]]
        hint = f"; the line contains {others[0]!r}: set task.separator" if others else ""
        raise DataError(
            f"{path} has {len(header)} columns in its first line; a table needs a header with at least two "
            f"(the separator is {separator!r}{hint})"
        )
    for position, name in enumerate(header):
        if not name:
            raise DataError(f"{path}: column {position + 1} of the header has no name")
        if name in header[:position]:
            raise DataError(f"{path}: the header has the column '{name}' twice")


def _column(table: Table, name: str, cells: Sequence[str], missing: frozenset[str], is_text: bool) -> Column:
    present = [None if cell in missing else cell for cell in cells]
    numbers = [None if cell is None else _number(cell) for cell in present]
    count = sum(cell is not None for cell in present)
    numeric = not is_text and count > 0 and sum(n is not None for n in numbers) > _SHARE * count
    if not numeric:
        return Column(name, list(present), False, is_text)
    for line, cell, number in zip(table.lines, present, numbers, strict=True):
        if cell is not None and (number is None or not math.isfinite(number)):
            raise DataError(
                f"{table.path}, line {line}, column '{name}': {cell!r} is not a finite number, though most of the "
                "column are numbers; correct it, add it to missing_values, or list the column in categories"
            )
    return Column(name, list(numbers), True)


def _number(cell: str) -> float | None:
    try:
        return float(cell) if "_" not in cell else None  # Python accepts 1_000, other programs do not
    except ValueError:
        return None
