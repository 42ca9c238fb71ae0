"""The tables of the plugin: `load_table`."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.space import Choice
from automl_nas_benchmarks.tables.coding import Coding
from automl_nas_benchmarks.tables.table import Column, Table

TABLES = {
    "nasbench201": "NAS-Bench-201: accuracy of 15,625 cells on three data sets after 12 and 200 epochs, size",
    "hw_nas_bench": "HW-NAS-Bench: latency and energy of the cells of NAS-Bench-201 on six devices",
    "nasbench_macro": "NAS-Bench-Macro: accuracy of 6,561 MobileNetV2-like networks on CIFAR-10, size",
}
"""Name of a table -> its content."""

ABSENT = np.iinfo(np.int64).min
"""The integer of a missing value in the files."""


@cache
def load_table(name: str) -> Table:
    """Return one of `TABLES`; a process reads each table once.

    Raises:
        ConfigurationError: no table has that name.
    """
    if name not in TABLES:
        raise ConfigurationError(f"no table is called '{name}'{did_you_mean(name, TABLES)}", path="table")
    columns: dict[str, Column] = {}
    file = resources.files("automl_nas_benchmarks.data") / f"{name}.npz"
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        codes = tuple(code.decode("ascii") for code in arrays["codes"].tolist())
        representatives = arrays["representatives"].astype(np.int64)
        for name_of_column, attributes in about["columns"].items():
            integers = arrays[f"column/{name_of_column}"].astype(np.int64)
            # The quotient of two exact doubles is rounded once, as when a decimal number is parsed.
            values = np.where(integers == ABSENT, np.nan, integers / 10.0 ** attributes["decimals"])
            values.setflags(write=False)
            columns[name_of_column] = Column(
                values,
                unit=attributes["unit"],
                better=attributes["better"],
                key=attributes["key"],
                absent=attributes.get("absent", "no value"),
                about=attributes["about"],
            )
    representatives.setflags(write=False)
    coding = Coding(
        {name: Choice(tuple(options)) for name, options in about["decisions"].items()},
        {name: tuple(str(place) for place in range(len(options))) for name, options in about["decisions"].items()},
    )
    return Table(name, coding, codes, columns, representatives, about["licence"], about["citation"])
