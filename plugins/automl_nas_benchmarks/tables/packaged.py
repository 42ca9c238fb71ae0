"""The tables that come with the plugin."""

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
"""Name -> what it holds."""

ABSENT = np.iinfo(np.int64).min
"""Stands for a missing value in the files."""


@cache
def load_table(name: str) -> Table:
    """Return one of `TABLES`; it is read once for each process.

    Raises:
        ConfigurationError: there is none of that name.
    """
    if name not in TABLES:
        raise ConfigurationError(f"no table is called '{name}'{did_you_mean(name, TABLES)}", path="table")
    columns: dict[str, Column] = {}
    file = resources.files("automl_nas_benchmarks.data") / f"{name}.npz"
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        codes = tuple(code.decode("ascii") for code in arrays["codes"].tolist())
        same = arrays["representatives"].astype(np.int64)
        for column, told in about["columns"].items():
            whole = arrays[f"column/{column}"].astype(np.int64)
            # A quotient of two exact doubles is rounded once, as a decimal number is when it is read.
            values = np.where(whole == ABSENT, np.nan, whole / 10.0 ** told["decimals"])
            values.setflags(write=False)
            columns[column] = Column(
                values, told["unit"], told["better"], told["key"], told.get("absent", "no value"), told["about"]
            )
    same.setflags(write=False)
    coding = Coding(
        {name: Choice(tuple(options)) for name, options in about["decisions"].items()},
        {name: tuple(str(place) for place in range(len(options))) for name, options in about["decisions"].items()},
    )
    return Table(name, coding, codes, columns, same, about["licence"], about["citation"])
