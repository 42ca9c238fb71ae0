"""Samples measured elsewhere: a file of architectures and values."""

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

from automl_nas.errors import DataError, SpaceError, did_you_mean
from automl_nas.space import Architecture, Decision, SearchSpace, Subset, decode


@final
@dataclass(frozen=True)
class SampleFile:
    """Where samples stand.

    Attributes:
        path: ``.json``, ``.csv`` or ``.csv.gz``. JSON: a list of ``{"architecture": {decision: value}, "value": 3.1}``.
            CSV: a column for each decision, or one of codes, and one of values.
        value: the column (in JSON the key) of the values.
        code: the column of codes: the number of the option of each decision, in order.
        separator: between the numbers of a code; empty: each is one digit.
        absent: values that say that an architecture has none, such as ``"-1"``; its row is left out.
    """

    path: Path
    value: str = "value"
    code: str | None = None
    separator: str = ""
    absent: tuple[str, ...] = ()


def read_samples(file: SampleFile, space: SearchSpace) -> tuple[list[Architecture], list[float]]:
    """Return architectures and their values.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds something that is no architecture of the space or
            no number; says in which row.
    """
    path = Path(file.path).expanduser()
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"the samples {path} cannot be read: {error}") from None
    rows = _json_rows(path, text) if path.suffix == ".json" else _csv_rows(path, text)
    architectures, values = [], []
    for number, row in enumerate(rows, start=1):
        try:
            value = _value(row, file)
            if value is not None:
                values.append(value)
                architectures.append(_architecture(row, file, space))
        except (SpaceError, ValueError) as error:
            raise DataError(f"{path}, sample {number}: {error}") from None
    return architectures, values


def _json_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from None
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
            raise DataError(f"{path}, line {number}: not as many cells as the first line has")
    return list(rows)


def _value(row: Mapping[str, Any], file: SampleFile) -> float | None:
    if file.value not in row:
        raise DataError(f"there is no '{file.value}'{did_you_mean(file.value, row)}; it has {', '.join(row)}")
    text = row[file.value]
    if str(text).strip() in file.absent:
        return None
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise DataError(f"'{file.value}' is {text!r}, which is no number")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"'{file.value}' is {text!r}, which is no number; name it in 'absent' if it stands for none")
    return value


def _architecture(row: Mapping[str, Any], file: SampleFile, space: SearchSpace) -> Architecture:
    decisions = space.decisions
    if file.code is not None:
        if file.code not in row:
            raise DataError(f"there is no '{file.code}'{did_you_mean(file.code, row)}; it has {', '.join(row)}")
        text = str(row[file.code]).strip()
        return _of_code([int(part) for part in (text.split(file.separator) if file.separator else text)], decisions)
    given = row.get("architecture", row)
    if not isinstance(given, Mapping):
        raise DataError("'architecture' must be a mapping of decisions to values")
    if given is not row:
        return space.validate(given)
    for name in decisions:
        if name not in given:
            raise DataError(f"there is no column for the decision '{name}'{did_you_mean(name, given)}")
    return space.validate({name: _option(given[name], decision) for name, decision in decisions.items()})


def _of_code(code: list[int], decisions: Mapping[str, Decision]) -> Architecture:
    sizes = [2 if isinstance(d, Subset) else len(d.options) for d in decisions.values() for _ in range(d.width)]
    if len(code) == len(sizes):
        for place, (number, size) in enumerate(zip(code, sizes, strict=True)):
            if not 0 <= number < size:
                raise DataError(f"number {place + 1} of the code is {number}; it is from 0 to {size - 1}")
    return decode(code, decisions)


def _option(text: object, decision: Decision) -> object:
    """Return what a cell says: the option with this text, or of a Subset the options between spaces."""
    if isinstance(decision, Subset):
        return tuple(_option(part, _one_of(decision)) for part in str(text).split())
    return next((option for option in decision.options if str(option) == str(text).strip()), text)


def _one_of(decision: Subset) -> Decision:
    from automl_nas.space import Choice

    return Choice(decision.options)
