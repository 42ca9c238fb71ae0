"""Search spaces whose architectures have known true values: `Benchmark`, `load_benchmark`, `benchmark_from_table`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, SpaceError, did_you_mean
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_benchmarks.tables.reader import Duplicates
from automl_nas_benchmarks.tables.table import Lookup, Table
from automl_nas_benchmarks.tables.table_costs import HWNASBench, TableCost
from automl_nas_benchmarks.tables.table_space import TableSpace

DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet16-120": "ImageNet16-120"}
"""The data sets of NAS-Bench-201 -> their titles."""

DEVICES = ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")
"""The devices of HW-NAS-Bench."""


@final
@dataclass(frozen=True, eq=False)
class Benchmark:
    """A space, the signal that a search receives, and the true value of every architecture of a table.

    `signal` and `truth` are larger for better architectures; for columns whose lower values are better they are the
    negated values.

    Attributes:
        name: such as ``nasbench201-cifar10``.
        space: the search space.
        signal_source: the column that a search receives as its metric.
        truth_source: the column of true values, by which the results of searches are compared.
        sign: 1 if higher values of both columns are better, -1 if lower ones are.
        costs: name -> cost that is known without a measurement (multiply-adds, parameters).
        devices: name -> cost measured on a device.
        about: a description in one line.
    """

    name: str
    space: SearchSpace
    signal_source: Lookup
    truth_source: Lookup
    sign: float = 1.0
    costs: Mapping[str, CostModel] = field(default_factory=dict)
    devices: Mapping[str, CostModel] = field(default_factory=dict)
    about: str = ""
    truths: NDArray[np.float64] = field(init=False, repr=False)
    """The true value of every distinct architecture, best first; shape ``(distinct,)``."""
    _rising: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        table = self.truth_source.table
        values = self.sign * np.array(self.truth_source.values, dtype=np.float64)
        if table.representatives is not None:
            values = values[np.unique(table.representatives)]
        rising = np.sort(values[~np.isnan(values)])
        if not len(rising):
            raise DataError(f"the column '{self.truth_source.column}' of the table '{table.name}' is empty")
        truths = rising[::-1].copy()
        for array in (rising, truths):
            array.setflags(write=False)
        object.__setattr__(self, "_rising", rising)
        object.__setattr__(self, "truths", truths)

    def signal(self, architecture: Architecture) -> float:
        """Return the signal of an architecture, the metric that a search receives.

        Raises:
            SpaceError: the table does not have the architecture, or its value is missing.
        """
        return self.sign * self._value(self.signal_source, architecture)

    def truth(self, architecture: Architecture) -> float:
        """Return the true value of an architecture.

        Raises:
            SpaceError: the table does not have the architecture, or its value is missing.
        """
        return self.sign * self._value(self.truth_source, architecture)

    @property
    def optimum(self) -> float:
        """The true value of the best architecture."""
        return float(self.truths[0])

    def regret(self, architecture: Architecture) -> float:
        """Return the optimum minus the true value of an architecture; not negative."""
        return self.optimum - self.truth(architecture)

    def rank(self, architecture: Architecture) -> int:
        """Return the number of distinct architectures with a better true value: 0 for the best ones."""
        return len(self._rising) - int(np.searchsorted(self._rising, self.truth(architecture), side="right"))

    @staticmethod
    def _value(lookup: Lookup, architecture: Architecture) -> float:
        value = lookup(architecture)
        if math.isnan(value):
            raise SpaceError(lookup.absent(architecture))
        return value


BENCHMARKS: dict[str, str] = {
    **{
        f"nasbench201-{name}": f"NAS-Bench-201, {title}: test accuracy after 200 epochs, which is also the signal"
        for name, title in DATASETS.items()
    },
    **{
        f"nasbench201-{name}-12ep": f"NAS-Bench-201, {title}: test accuracy after 200 epochs; signal: validation, 12"
        for name, title in DATASETS.items()
    },
    "nasbench_macro": "NAS-Bench-Macro, CIFAR-10: mean test accuracy of three runs, which is also the signal",
    **{
        f"nasbench_macro-run{run}": f"NAS-Bench-Macro, CIFAR-10: mean test accuracy of three runs; signal: run {run}"
        for run in (1, 2, 3)
    },
}
"""Name of a benchmark -> description."""


@cache
def load_benchmark(name: str) -> Benchmark:
    """Return one of `BENCHMARKS`; a process constructs each of them once.

    Raises:
        ConfigurationError: no benchmark has that name.
    """
    if name not in BENCHMARKS:
        raise ConfigurationError(f"no benchmark is called '{name}'{did_you_mean(name, BENCHMARKS)}")
    family, _, rest = name.partition("-")
    table = load_table(family)
    if family == "nasbench_macro":
        space: SearchSpace = import_module("automl_nas_benchmarks.spaces.nasbench_macro").NASBenchMacro()
        signal, truth = (f"test_{rest.removeprefix('run')}" if rest else "test_mean"), "test_mean"
        sizes, devices = {"flops": "flops", "params": "params"}, {}
    else:
        space = import_module("automl_nas_benchmarks.spaces.nasbench201").NASBench201()
        dataset = rest.removesuffix("-12ep")
        truth = f"{dataset}_test_200"
        signal = f"{dataset}_val_12" if rest != dataset else truth
        sizes = {"mflops": "cifar10_mflops", "mparams": "cifar10_mparams"}
        devices = {
            f"{device}_latency": HWNASBench(space, device=device, dataset=dataset)  # type: ignore[arg-type]
            for device in DEVICES
        }
    costs = {short: TableCost(space, table=family, column=column) for short, column in sizes.items()}
    return Benchmark(
        name, space, table.lookup(signal), table.lookup(truth), costs=costs, devices=devices, about=BENCHMARKS[name]
    )


def benchmark_from_table(
    path: str | Path,
    *,
    metric: str,
    truth: str | None = None,
    codes: str | tuple[str, ...] | None = None,
    separator: str = "",
    decisions: tuple[str, ...] = (),
    ordered: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    duplicates: Duplicates = "error",
    maximize: bool = True,
    costs: tuple[str, ...] = (),
    name: str | None = None,
) -> Benchmark:
    """Return the benchmark of a user's own table.

    Args:
        path: ``.csv``, ``.csv.gz`` or ``.parquet``.
        metric: the column of signals, which a search receives as its metric.
        truth: the column of true values; None: ``metric``.
        codes: the column or columns of codes; see `TableSpace`, also for the next five.
        separator: string between the symbols of a code.
        decisions: instead of ``codes``, the columns with one decision each.
        ordered: decisions whose options are ordered numbers.
        absent: additional strings that mean a missing value.
        duplicates: ``error``, ``mean`` or ``first``: what happens to rows of the same architecture.
        maximize: whether higher values of both columns are better.
        costs: columns of costs that are known without a measurement.
        name: name of the benchmark; None: the file name without its suffix.

    Raises:
        DataError: the table cannot be read or used; the message contains the place.
        ConfigurationError: the table has no column of that name.
    """
    space = TableSpace(
        path=Path(path),
        codes=codes,
        separator=separator,
        decisions=decisions,
        ordered=ordered,
        absent=absent,
        duplicates=duplicates,
    )
    table: Table = space.table
    return Benchmark(
        name or Path(path).name.partition(".")[0],
        space,
        table.lookup(metric),
        table.lookup(metric if truth is None else truth),
        sign=1.0 if maximize else -1.0,
        costs={column: TableCost(space, column=column) for column in costs},
        about=f"{len(table):,} architectures of {table.name}: {truth or metric}",
    )
