"""Cost models that look costs up in a table: `TableCost`, `HWNASBench`, `Listed`."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_benchmarks.tables.reader import TableSource
from automl_nas_benchmarks.tables.table import Table
from automl_nas_benchmarks.tables.table_space import table_of

HWDataset = Literal["cifar10", "cifar100", "imagenet16-120"]
"""The data sets of NAS-Bench-201; the networks differ in the size of their images and the number of classes."""

_DEVICES = {
    "edgegpu": ("latency", "energy"),
    "raspi4": ("latency",),
    "edgetpu": ("latency",),
    "pixel3": ("latency",),
    "eyeriss": ("latency", "energy", "arithmetic_intensity"),
    "fpga": ("latency", "energy"),
}


class ColumnCost(CostModel, ABC):
    """Base class of the cost models that look up a column."""

    metric: ClassVar[str] = "table_cost"
    unit: ClassVar[str] = "as in the table"

    @abstractmethod
    def __init__(self) -> None:
        """Load the table, check that it fits the space, and call `_open`."""

    @final
    def _open(self, table: Table, column: str, missing: float | None) -> None:
        self._lookup = table.lookup(column)
        self._missing = math.inf if missing is None else missing
        # The metric is the name of the column, so that messages contain it; it must be an identifier.
        name = re.sub(r"\W", "_", column)
        self.metric = name if name.isidentifier() else ColumnCost.metric  # type: ignore[misc]
        self.unit = table.columns[column].unit or ColumnCost.unit  # type: ignore[misc]

    @final
    def estimate(self, architecture: Architecture) -> float:
        """Return the value of the column; the setting ``missing``, by default infinity, if there is no row or value.

        Raises:
            SpaceError: the architecture lacks a decision of the table, or has an option that the table does not have.
        """
        try:
            value = self._lookup(architecture)
        except SpaceError:
            self._lookup.table.coding.code(architecture)  # raises the error of the decision or option
            value = math.nan
        return self._missing if math.isnan(value) else value

    @final
    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        """Return the architectures of the table, and the setting ``missing`` for all others; None if all have a row."""
        return None if self._lookup.table.complete else (self._lookup.table.listed(), self._missing)

    @final
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the path of the network itself, the empty string: it has no parts."""
        return {"": self.estimate(architecture)}


@final
class TableCost(ColumnCost):
    """A column of a table as a cost.

    Args:
        space: the search space.
        column: name of the column.
        table: a table of the plugin, such as ``nasbench201``; None: see ``source``.
        source: a table of your own. Without ``table`` and ``source``, the space must be a ``table``.
        missing: the cost of a network whose value is missing; None: infinite, above every limit.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        column: str,
        table: str | None = None,
        source: TableSource | None = None,
        missing: float | None = None,
    ) -> None:
        if table is not None and source is not None:
            raise ConfigurationError("set 'table' or 'source', not both", path="table")
        costs = load_table(table) if table is not None else table_of(space, source, "table_cost")
        costs.check(space, "table_cost")
        self._open(costs, column, missing)


@final
class HWNASBench(ColumnCost):
    """Latency or energy of a cell of NAS-Bench-201 on a device (Li et al. 2021, arXiv 2103.10584).

    The costs of four devices are measurements; those of ``eyeriss`` and ``fpga`` are estimates of simulators. They are
    looked up under the cell's own code, not its representative's: a device also runs edges without an effect.

    Args:
        space: the space of NAS-Bench-201.
        device: ``edgegpu``, ``raspi4``, ``edgetpu`` (4,699 of the cells do not run on it), ``pixel3``, ``eyeriss`` or
            ``fpga``.
        measure: ``latency`` (ms), ``energy`` (mJ; edgegpu, eyeriss, fpga) or ``arithmetic_intensity`` (eyeriss).
        dataset: the data set of the network.
        missing: the cost of a network that does not run on the device; None: infinite, above every limit.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        device: str,
        measure: str = "latency",
        dataset: HWDataset = "cifar10",
        missing: float | None = None,
    ) -> None:
        if device not in _DEVICES:
            raise ConfigurationError(f"unknown device '{device}'{did_you_mean(device, _DEVICES)}", path="device")
        if measure not in _DEVICES[device]:
            raise ConfigurationError(
                f"'{device}' has no '{measure}'{did_you_mean(measure, _DEVICES[device])}", path="measure"
            )
        table = load_table("hw_nas_bench")
        table.check(space, "hw_nas_bench")
        self._open(table, f"{dataset}_{device}_{measure}", missing)


@final
class Listed(CostModel):
    """1 for an architecture of a table, 0 for others: ``">= 1"`` restricts a search to an incomplete table.

    Args:
        space: the search space.
        source: the table; None: the table of the space, which must be a ``table``.
    """

    metric: ClassVar[str] = "listed"
    unit: ClassVar[str] = "rows"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, source: TableSource | None = None) -> None:
        self._table = table_of(space, source, "listed")
        # The decisions of another space may have options that the table lacks.
        self._complete = len(self._table.listed()) == space.size

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return 1 or 0 under the path of the network itself.

        Raises:
            SpaceError: the architecture lacks a decision of the table.
        """
        return {"": int(self._table.has(architecture))}

    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        """Return the architectures of the table, and 0 for all others; None if the table has all architectures."""
        return None if self._complete else (self._table.listed(), 0.0)

    @classmethod
    def of_table(cls, table: Table) -> Listed:
        """Return the cost of a table, for a space with its decisions."""
        listed = cls.__new__(cls)
        listed._table, listed._complete = table, table.complete
        return listed
