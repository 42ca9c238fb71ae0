"""Reads a user's own table from CSV or Parquet: `TableSource` and `read_table`."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas_benchmarks.tables.coding import Coding
from automl_nas_benchmarks.tables.columns import Names, coding_of_codes, coding_of_columns
from automl_nas_benchmarks.tables.table import Column, Table

_MISSING = frozenset({"", "nan", "na", "n/a", "null", "none"})
"""Cells, in lower case, that are missing values."""


Duplicates: TypeAlias = Literal["error", "mean", "first"]
"""What happens to rows of the same architecture: see `TableSource`."""


@final
@dataclass(frozen=True)
class TableSource:
    """The file of a table, with an architecture and its metrics and costs in each row.

    Attributes:
        path: ``.csv``, ``.csv.gz`` or ``.parquet`` (which needs the extra ``benchmark``).
        codes: the column of codes: strings with one symbol for each decision; several columns: their symbols are joined
            to one code.
        separator: string between the symbols of a code; empty: each character is a symbol.
        decisions: instead of ``codes``, the columns with one decision each.
        ordered: decisions (with codes: ``choice_1``, ...) whose options are ordered numbers, such as widths.
        absent: additional strings that mean a missing value, such as ``"-1"``.
        lower_is_better: columns whose lower values are better.
        duplicates: what happens to rows of the same architecture. ``error``: the table is refused; ``mean``: they
            become one row with the mean of the present values; ``first``: the first of them is used.
    """

    path: Path
    codes: str | tuple[str, ...] | None = None
    separator: str = ""
    decisions: tuple[str, ...] = ()
    ordered: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    lower_is_better: tuple[str, ...] = ()
    duplicates: Duplicates = "error"


def read_table(source: TableSource) -> Table:
    """Read a table; an unchanged file is read only once.

    Columns of numbers become `Column`s. Other columns are not loaded; `Table.column` raises an error for them.

    Raises:
        DataError: the file cannot be read, or its codes are malformed or not distinct; the message contains the row.
        ConfigurationError: the table has no column of that name.
    """
    path = Path(source.path).expanduser()
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"the table {path} cannot be read: {error.strerror or error}") from None
    return _read(source, path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(source: TableSource, path: Path, changed: int, size: int) -> Table:
    cells = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    coding, codes = _coding(source, cells, path)
    distinct = dict.fromkeys(codes)
    merged = len(distinct) < len(codes)
    if merged and source.duplicates == "error":
        raise _more_than_once(path, codes)
    keys = set(_code_columns(source) or source.decisions)
    unknown = [name for name in source.lower_is_better if name not in cells]
    if unknown:
        raise ConfigurationError(_no_column(path, unknown[0], cells), path="lower_is_better")
    columns: dict[str, Column] = {}
    unusable: dict[str, str] = {}
    absent = _MISSING | {text.strip().lower() for text in source.absent}
    for name, column in cells.items():
        if name in keys:
            continue
        try:
            values = np.array(
                [_number(text, absent, row) for row, text in enumerate(column, start=1)], dtype=np.float64
            )
        except ValueError as error:
            unusable[name] = str(error)
            continue
        if merged:
            values = _merged(values, codes, source.duplicates)
        values.setflags(write=False)
        columns[name] = Column(values, better="lower" if name in source.lower_is_better else "higher")
    return Table(path.name, coding, tuple(distinct), columns, unusable=unusable)


def _code_columns(source: TableSource) -> tuple[str, ...]:
    return (source.codes,) if isinstance(source.codes, str) else source.codes or ()


def _more_than_once(path: Path, codes: Sequence[str]) -> DataError:
    rows: dict[str, int] = {}
    for row, code in enumerate(codes, start=1):
        if (first := rows.setdefault(code, row)) != row:
            break
    return DataError(
        f"the table '{path.name}' has the code '{code}' more than once, in rows {first} and {row} "
        f"({len(codes) - len(set(codes))} rows too many); set 'duplicates' to 'mean' or 'first' to merge such rows"
    )


def _merged(values: NDArray[np.float64], codes: Sequence[str], duplicates: Duplicates) -> NDArray[np.float64]:
    """Return one value for each distinct code, in the order of the first rows."""
    places: dict[str, int] = {}
    place = np.array([places.setdefault(code, len(places)) for code in codes])
    if duplicates == "first":
        return values[np.unique(place, return_index=True)[1]]
    present = ~np.isnan(values)
    counts = np.bincount(place[present], minlength=len(places))
    sums = np.bincount(place[present], values[present], minlength=len(places))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _coding(source: TableSource, cells: dict[str, list[Any]], path: Path) -> tuple[Coding, tuple[str, ...]]:
    columns = _code_columns(source)
    if bool(columns) == bool(source.decisions):
        raise ConfigurationError(
            f"set either 'codes' to the column of codes of {path.name}, or 'decisions' to its columns with a decision "
            f"each; its columns are {', '.join(cells)}",
            path="codes",
        )
    for name in columns or source.decisions:
        if name not in cells:
            raise ConfigurationError(_no_column(path, name, cells), path="codes" if columns else "decisions")
    names = Names(path.name, frozenset(source.ordered))
    if columns:
        return coding_of_codes(names, {name: cells[name] for name in columns}, source.separator)
    return coding_of_columns(names, {name: cells[name] for name in source.decisions})


def _no_column(path: Path, name: str, cells: dict[str, list[Any]]) -> str:
    return f"the table {path.name} has no column '{name}'{did_you_mean(name, cells)}"


def _number(cell: Any, absent: frozenset[str], row: int) -> float:
    if cell is None:
        return math.nan
    if isinstance(cell, str):
        if (text := cell.strip()).lower() in absent:
            return math.nan
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"row {row} has '{text}', which is not a finite number")
        return value
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise ValueError(f"row {row} has {cell!r}, which is not a number")
    if math.isinf(cell):
        raise ValueError(f"row {row} has {cell!r}, which is not a finite number")
    return math.nan if str(cell) in absent else float(cell)


def _csv(path: Path) -> dict[str, list[Any]]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"the table {path} cannot be read as CSV in UTF-8: {error}") from None
    if len(lines) < 2:
        raise DataError(f"the table {path} has no rows: it needs a line of column names and one for each architecture")
    head = [name.strip() for name in lines[0]]
    _check_head(head, path)
    for row, line in enumerate(lines[1:], start=1):
        if len(line) != len(head):
            raise DataError(f"row {row} of the table {path} has {len(line)} cells for {len(head)} columns")
    return {name: list(cells) for name, cells in zip(head, zip(*lines[1:], strict=True), strict=True)}


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(
            f"{path} is a Parquet file, which needs pyarrow: pip install 'automl-nas[benchmark]', or write the "
            "table as CSV"
        ) from None
    try:
        read = ParquetFile(path).read()
    except (OSError, ArrowException) as error:
        raise DataError(f"the table {path} cannot be read as Parquet: {error}") from None
    if not read.num_rows:
        raise DataError(f"the table {path} has no rows")
    _check_head(read.column_names, path)
    return {name: read.column(name).to_pylist() for name in read.column_names}


def _check_head(head: Sequence[str], path: Path) -> None:
    twice = sorted({name for name in head if head.count(name) > 1})
    if twice:
        raise DataError(f"the table {path} has more than one column '{twice[0]}'")
