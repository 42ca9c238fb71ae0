"""The cost model `device_table`: a table of operations measured elsewhere."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace, Subset


@final
class DeviceTable(CostModel):
    """A cost as a sum of a table's rows: one for the option of each decision, and some that every network has.

    Args:
        space: what is searched.
        path: ``.csv`` or ``.csv.gz`` with a column of names and one of values, or ``.json``: ``{name: value}``.
        rows: decision -> option, as text -> the name of its row; null: the option costs nothing. A `Subset` adds up the
            rows of its elements.
        fixed: names of rows that count for every network, such as the first layer.
        key: the column of names.
        value: the column of values.
        unit: of the values.

    Raises:
        DataError: the file cannot be read, or has no row for an operation; names the operation and the layer.
        ConfigurationError: ``rows`` lacks a decision or an option, or the file a column.
    """

    metric: ClassVar[str] = "device_table"
    unit: ClassVar[str] = "ms"

    def __init__(
        self,
        space: SearchSpace,
        *,
        path: Path,
        rows: dict[str, dict[str, str | None]],
        fixed: tuple[str, ...] = (),
        key: str = "block",
        value: str = "mean_ms",
        unit: str = "ms",
    ) -> None:
        self._space, self.unit = space, unit  # type: ignore[misc]
        table = read_rows(path, key, value)
        for name in rows:
            if name not in space.decisions:
                raise ConfigurationError(
                    f"the space has no decision '{name}'{did_you_mean(name, space.decisions)}", path=f"rows.{name}"
                )
        self._fixed = {name: _row(table, path, name, "every network") for name in fixed}
        self._costs: dict[str, list[float]] = {}
        for name, decision in space.decisions.items():
            own = rows.get(name)
            if own is None:
                raise ConfigurationError(f"say which rows the options of '{name}' have", path="rows")
            texts = [str(option) for option in decision.options]
            for text in texts:
                if text not in own:
                    raise ConfigurationError(
                        f"no row is given for the option '{text}' of '{name}'; null stands for an operation that costs "
                        "nothing",
                        path=f"rows.{name}",
                    )
            found = [(own[text], f"the option '{text}' of the layer '{name}'") for text in texts]
            self._costs[name] = [0.0 if row is None else _row(table, path, row, place) for row, place in found]

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the name of a fixed row or of a decision -> its cost.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        checked = self._space.validate(architecture)
        found = dict(self._fixed)
        for name, decision in self._space.decisions.items():
            taken = checked[name]
            options = taken if isinstance(decision, Subset) and isinstance(taken, tuple) else (taken,)
            costs = self._costs[name]
            found[name] = found.get(name, 0.0) + sum(costs[decision.position(option)] for option in options)
        return found


def read_rows(path: Path, key: str, value: str) -> dict[str, float]:
    """Return name -> value of a table in a file.

    Raises:
        DataError: it cannot be read, names a row twice, or holds a value that is no number of 0 or more.
        ConfigurationError: it has no such column.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"the device table {path} cannot be read: {error}") from None
    if path.suffix == ".json":
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} is no JSON: {error}") from None
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
    found: dict[str, float] = {}
    for name, cell in pairs:
        try:
            number = math.nan if isinstance(cell, bool) else float(cell)
        except (TypeError, ValueError):
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise DataError(f"{path}: the row '{name}' has the value {cell!r}, which is no cost")
        if name in found:
            raise DataError(f"{path} holds the row '{name}' twice")
        found[name] = number
    return found


def _row(table: Mapping[str, float], path: Path, row: str, place: str) -> float:
    if row not in table:
        raise DataError(
            f"the device table {path} has no operation '{row}'{did_you_mean(row, table)}, which {place} needs; measure "
            "it on the device and add a row, or leave the option out of the space"
        )
    return table[row]
