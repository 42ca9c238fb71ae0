"""The cost model `device_table`: a sum over a table of operations that was measured elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace, Subset
from automl_nas_costs.prediction.table_files import read_rows


@final
class DeviceTable(CostModel):
    """A cost as a sum of a table's rows: one for the option of each decision, and some for every network.

    Args:
        space: any search space.
        path: ``.csv`` or ``.csv.gz`` with a column of names and one of values, or ``.json``: ``{name: value}``.
        rows: decision -> option, as a string -> the name of its row; null: the option costs 0. A `Subset` adds up the
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
        self._fixed = {name: _cost(table, path, name, "every network") for name in fixed}
        self._costs: dict[str, list[float]] = {}
        for name, decision in space.decisions.items():
            row_of = rows.get(name)
            if row_of is None:
                raise ConfigurationError(f"name the rows of the options of '{name}'", path="rows")
            costs = []
            for option in map(str, decision.options):
                if option not in row_of:
                    raise ConfigurationError(
                        f"the option '{option}' of '{name}' has no row; set null for an operation that costs nothing",
                        path=f"rows.{name}",
                    )
                row = row_of[option]
                user = f"the option '{option}' of the layer '{name}'"
                costs.append(0.0 if row is None else _cost(table, path, row, user))
            self._costs[name] = costs

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return name of a fixed row or of a decision -> its cost.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        checked = self._space.validate(architecture)
        costs = dict(self._fixed)
        for name, decision in self._space.decisions.items():
            value = checked[name]
            options = value if isinstance(decision, Subset) and isinstance(value, tuple) else (value,)
            cost = sum(self._costs[name][decision.position(option)] for option in options)
            costs[name] = costs.get(name, 0.0) + cost
        return costs


def _cost(table: Mapping[str, float], path: Path, row: str, user: str) -> float:
    if row not in table:
        raise DataError(
            f"the device table {path} has no operation '{row}'{did_you_mean(row, table)}, which {user} needs; measure "
            "it on the device and add a row, or remove the option from the space"
        )
    return table[row]
