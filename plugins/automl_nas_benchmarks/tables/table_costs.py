"""Costs that are read from a table: `TableCost`, `HWNASBench`, `Listed`."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    """What the cost models of this module share: a column is looked up."""

    metric: ClassVar[str] = "table_cost"
    unit: ClassVar[str] = "as in the table"

    @abstractmethod
    def __init__(self) -> None:
        """Find the table, check it against the space, and call `_open`."""

    @final
    def _open(self, table: Table, column: str, missing: float | None) -> None:
        self._lookup = table.lookup(column)
        self._missing = math.inf if missing is None else missing
        # Messages name the quantity that was chosen rather than the class that looks it up; as an identifier.
        name = re.sub(r"\W", "_", column)
        self.metric = name if name.isidentifier() else ColumnCost.metric  # type: ignore[misc]
        self.unit = table.columns[column].unit or ColumnCost.unit  # type: ignore[misc]

    @final
    def estimate(self, architecture: Architecture) -> float:
        """Return the value; infinity where the network has none, unless ``missing`` says otherwise.

        Raises:
            SpaceError: the table does not hold the architecture.
        """
        value = self._lookup(architecture)
        return self._missing if math.isnan(value) else value

    @final
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the network's own path, the empty text: a table knows no modules."""
        return {"": self.estimate(architecture)}


@final
class TableCost(ColumnCost):
    """A column of a table as a cost.

    Args:
        space: what is searched.
        column: which one.
        table: a table of the plugin, such as ``nasbench201``; None: see ``source``.
        source: a table of your own; without either, that of the space, if the space is a ``table``.
        missing: the cost of a network that has none in the table; None: infinite, above every limit.
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
            raise ConfigurationError("give 'table' or 'source', not both", path="table")
        found = load_table(table) if table is not None else table_of(space, source, "table_cost")
        found.check(space, "table_cost")
        self._open(found, column, missing)


@final
class HWNASBench(ColumnCost):
    """Latency or energy of a cell of NAS-Bench-201 on a device (Li et al. 2021, arXiv 2103.10584).

    Measured on four devices; ``eyeriss`` and ``fpga`` are estimates of simulators. Looked up under the cell's own code,
    not its representative's: devices run edges that do not matter for the function.

    Args:
        space: that of NAS-Bench-201.
        device: ``edgegpu``, ``raspi4``, ``edgetpu`` (4,699 of the cells do not run on it), ``pixel3``, ``eyeriss`` or
            ``fpga``.
        measure: ``latency`` (ms), ``energy`` (mJ; edgegpu, eyeriss, fpga) or ``arithmetic_intensity`` (eyeriss).
        dataset: whose network.
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
            raise ConfigurationError(f"there is no device '{device}'{did_you_mean(device, _DEVICES)}", path="device")
        if measure not in _DEVICES[device]:
            raise ConfigurationError(
                f"'{device}' has no '{measure}'{did_you_mean(measure, _DEVICES[device])}", path="measure"
            )
        table = load_table("hw_nas_bench")
        table.check(space, "hw_nas_bench")
        self._open(table, f"{dataset}_{device}_{measure}", missing)


@final
class Listed(CostModel):
    """1 for an architecture that a table holds, 0 for others: ``">= 1"`` keeps a search inside an incomplete table.

    Args:
        space: what is searched.
        source: the table; None: that of the space, if the space is a ``table``.
    """

    metric: ClassVar[str] = "listed"
    unit: ClassVar[str] = "rows"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, source: TableSource | None = None) -> None:
        self._table = table_of(space, source, "listed")

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return 1 or 0 under the network's own path.

        Raises:
            SpaceError: it has other decisions than the table.
        """
        for name in self._table.coding.decisions:
            if name not in architecture:
                raise SpaceError(f"the architecture has no decision '{name}', which the table asks for")
        try:
            self._table.row(architecture)
        except SpaceError:
            return {"": 0}
        return {"": 1}
