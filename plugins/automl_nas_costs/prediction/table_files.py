"""Costs measured elsewhere, read from JSON and CSV files: `SampleFile`, `read_samples`, `read_rows`."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from automl_nas.errors import ConfigurationError, DataError, SpaceError, did_you_mean
from automl_nas.space import Architecture, Choice, Decision, SearchSpace, Subset, decode
from automl_nas_costs.prediction.samples import Sample


@final
@dataclass(frozen=True)
class SampleFile:
    """A file of samples, and the columns that hold the architecture and the value.

    Attributes:
        path: ``.json``, ``.csv`` or ``.csv.gz``. JSON: a list of ``{"architecture": {decision: value}, "value": 3.1}``.
            CSV: a column for each decision, or one of codes, and one of values.
        value: the column (in JSON the key) of the values.
        code: the column of codes: the number of the option of each decision, in order.
        separator: between the numbers of a code; empty: each is one digit.
        absent: cells that mean that an architecture has no value, such as ``"-1"``; its row is left out.
    """

    path: Path
    value: str = "value"
    code: str | None = None
    separator: str = ""
    absent: tuple[str, ...] = ()


def read_samples(file: SampleFile, space: SearchSpace) -> list[Sample]:
    """Return the samples of a file.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds an architecture that is not of the space or a value
            that is not a number; names the row.
    """
    path = Path(file.path).expanduser()
    text = _read_text(path, "samples")
    rows = _json_rows(path, text) if path.suffix == ".json" else _csv_rows(path, text)
    samples = []
    for number, row in enumerate(rows, start=1):
        try:
            value = _value(row, file)
            if value is not None:
                samples.append(Sample(_architecture(row, file, space), value))
        except (SpaceError, ValueError) as error:
            raise DataError(f"{path}, sample {number}: {error}") from None
    return samples


def read_rows(path: Path, key: str, value: str) -> dict[str, float]:
    """Return name -> cost of a table in a file: ``.json`` with ``{name: cost}``, ``.csv`` or ``.csv.gz``.

    Args:
        path: of the file.
        key: the column of names, in CSV.
        value: the column of costs, in CSV.

    Raises:
        DataError: the file cannot be read, names a row twice, or holds a cost that is not a number of 0 or more.
        ConfigurationError: the file has no such column.
    """
    path = Path(path).expanduser()
    text = _read_text(path, "device table")
    if path.suffix == ".json":
        parsed = _json(path, text)
        if not isinstance(parsed, dict):
            raise DataError(f"{path} must hold {{name: value}}")
        pairs = [(str(name), cell) for name, cell in parsed.items()]
    else:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or ()
        for name in (key, value):
            if name not in columns:
                raise ConfigurationError(f"{path} has no column '{name}'{did_you_mean(name, columns)}", path="key")
        pairs = [(row[key], row[value]) for row in reader]
    costs: dict[str, float] = {}
    for name, cell in pairs:
        number = math.nan if isinstance(cell, bool) else _number(cell)
        if not number >= 0 or math.isinf(number):
            raise DataError(f"{path}: the row '{name}' has the value {cell!r}; a cost is a number of 0 or more")
        if name in costs:
            raise DataError(f"{path} holds the row '{name}' twice")
        costs[name] = number
    return costs


def _read_text(path: Path, content: str) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"the {content} {path} cannot be read: {error}") from None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}") from None


def _json_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    rows = _json(path, text)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f'{path} must hold a list of {{"architecture": {{...}}, "value": ...}}')
    return rows


def _csv_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"{path}, line {number}: the number of cells differs from that of the first line")
    return list(rows)


def _number(cell: object) -> float:
    """Return a cell as a number; NaN if it is not one."""
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise DataError(f"there is no '{column}'{did_you_mean(column, row)}; the columns are {', '.join(row)}")
    return row[column]


def _value(row: Mapping[str, Any], file: SampleFile) -> float | None:
    cell = _cell(row, file.value)
    if str(cell).strip() in file.absent:
        return None
    number = _number(cell) if isinstance(cell, int | float | str) and not isinstance(cell, bool) else math.nan
    if not math.isfinite(number):
        raise DataError(f"'{file.value}' is {cell!r}, not a number; list it in 'absent' if it marks a missing value")
    return number


def _architecture(row: Mapping[str, Any], file: SampleFile, space: SearchSpace) -> Architecture:
    decisions = space.decisions
    if file.code is not None:
        code = str(_cell(row, file.code)).strip()
        return _of_code([int(part) for part in (code.split(file.separator) if file.separator else code)], decisions)
    cells = row.get("architecture", row)
    if not isinstance(cells, Mapping):
        raise DataError("'architecture' must be a mapping of decisions to values")
    if cells is not row:
        return space.validate(cells)
    for name in decisions:
        if name not in cells:
            raise DataError(f"the decision '{name}' has no column{did_you_mean(name, cells)}")
    return space.validate({name: _option(cells[name], decision) for name, decision in decisions.items()})


def _of_code(code: list[int], decisions: Mapping[str, Decision]) -> Architecture:
    sizes = [2 if isinstance(d, Subset) else len(d.options) for d in decisions.values() for _ in range(d.width)]
    if len(code) == len(sizes):
        for place, (number, size) in enumerate(zip(code, sizes, strict=True)):
            if not 0 <= number < size:
                raise DataError(f"number {place + 1} of the code is {number}; it is from 0 to {size - 1}")
    return decode(code, decisions)


def _option(cell: object, decision: Decision) -> object:
    """Return the option that a cell names; for a Subset the tuple of its options, separated by spaces in the cell."""
    if isinstance(decision, Subset):
        return tuple(_option(part, Choice(decision.options)) for part in str(cell).split())
    return next((option for option in decision.options if str(option) == str(cell).strip()), cell)
