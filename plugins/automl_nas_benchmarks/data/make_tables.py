"""Make the tables of the plugin from the published CSV files.

    python plugins/automl_nas_benchmarks/data/make_tables.py FOLDER

FOLDER contains ``nasbench201.csv.gz``, ``nasbench201_hw_nas_bench.csv.gz`` and ``nasbench_macro_c10.csv.gz``. Each
table is an ``.npz`` file in the folder of this script, read without pickle: ``codes``, ``representatives`` (the first
row of the same function), ``about`` (JSON), and for each column integers: the published decimals times a power of ten.
So every value is exactly the published one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas_benchmarks.tables.packaged import ABSENT

DATASETS = {"c10": "cifar10", "c100": "cifar100", "in16": "imagenet16-120"}
TITLES = {"c10": "CIFAR-10", "c100": "CIFAR-100", "in16": "ImageNet16-120"}
DEVICES = {
    "edgegpu": "an NVIDIA edge GPU (Jetson TX2)",
    "raspi4": "a Raspberry Pi 4",
    "edgetpu": "an Edge TPU",
    "pixel3": "a Pixel 3 phone",
    "eyeriss": "the accelerator Eyeriss (estimated)",
    "fpga": "an FPGA (estimated)",
}
MEASURES = {
    "latency": ("latency", "ms", "lower"),
    "energy": ("energy", "mJ", "lower"),
    "arithmetic_intensity": ("operations for each memory access, as published", "ratio", "higher"),
}
CELL = {
    edge: ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]
    for edge in ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")
}
LAYERS = {f"layer_{number}": ["identity", "k3_e3", "k5_e6"] for number in range(1, 9)}
NB201 = (
    "X. Dong, Y. Yang: NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search. ICLR 2020. "
    "arXiv 2001.00326"
)
HW = (
    "C. Li, Z. Yu, Y. Fu, Y. Zhang, Y. Zhao, H. You, Q. Yu, Y. Wang, Y. Lin: HW-NAS-Bench: Hardware-Aware Neural "
    "Architecture Search Benchmark. ICLR 2021. arXiv 2103.10584"
)
MACRO = (
    "X. Su, T. Huang, Y. Li, S. You, F. Wang, C. Qian, C. Zhang, C. Xu: Prioritized Architecture Sampling with "
    "Monto-Carlo Tree Search. CVPR 2021. arXiv 2103.11922"
)

Rows = Sequence[Mapping[str, str]]


def read(path: Path) -> list[dict[str, str]]:
    """Return the rows of a gzipped CSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def to_integers(cells: Sequence[str]) -> tuple[NDArray[Any], int]:
    """Return decimal numbers as integers, and the number of decimals; empty cells are missing values."""
    numbers = [Decimal(cell).normalize() if cell else None for cell in cells]
    decimals = max(0, *(-int(number.as_tuple().exponent) for number in numbers if number is not None))
    integers = [ABSENT if number is None else int(number.scaleb(decimals)) for number in numbers]
    # The integer and the power of ten must be exact doubles; otherwise a value would be rounded twice.
    assert decimals <= 22 and all(abs(number) < 2**53 for number in integers if number != ABSENT)
    array = np.array(integers, dtype=np.int64)
    narrow = next(kind for kind in (np.uint8, np.uint16, np.int32, np.int64) if fits(array, kind))
    return array.astype(narrow), decimals


def fits(array: NDArray[np.int64], kind: Any) -> bool:
    """Return whether an integer type can hold all values."""
    limits = np.iinfo(kind)
    return bool(limits.min <= array.min() and array.max() <= limits.max)


def write(
    path: Path, codes: Sequence[str], same: Sequence[int], about: dict[str, Any], columns: Mapping[str, Any]
) -> None:
    """Write a table, in the order of its codes.

    Args:
        path: path of the file.
        codes: the code of each row.
        same: for each row a number that is equal for rows of the same function.
        about: attributes of the table.
        columns: name of a column -> its cells, and its attributes.
    """
    order = sorted(range(len(codes)), key=codes.__getitem__)
    first: dict[int, int] = {}
    position = {row: place for place, row in enumerate(order)}
    for row in sorted(range(len(codes))):
        first.setdefault(same[row], position[row])
    arrays: dict[str, NDArray[Any]] = {
        "codes": np.array([codes[row] for row in order], dtype=f"S{len(codes[0])}"),
        "representatives": np.array([first[same[row]] for row in order], dtype=np.uint16),
    }
    for column, (cells, attributes) in columns.items():
        arrays[f"column/{column}"], attributes["decimals"] = to_integers([cells[row] for row in order])
        about.setdefault("columns", {})[column] = attributes
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    # Not numpy.savez, which writes the time into the file: equal tables should give equal bytes.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            file.writestr(
                zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )
    print(f"{path.name}: {len(codes):,} rows, {len(columns)} columns, {path.stat().st_size:,} bytes")


def column_attributes(unit: str, better: str, key: str, about: str, **more: str) -> dict[str, Any]:
    """Return the attributes of a column, as `load_table` reads them."""
    return {"unit": unit, "better": better, "key": key, "about": about, **more}


def nasbench201(rows: Rows, out: Path) -> None:
    """Write the table of accuracies and sizes of NAS-Bench-201."""
    columns: dict[str, Any] = {}
    for name in rows[0]:
        short, _, rest = name.partition("_")
        if short not in DATASETS:
            continue
        split, _, epochs = rest.partition("_")
        if epochs:
            part = "test" if split == "test" else "validation"
            about = column_attributes(
                "%", "higher", "canonical", f"{part} accuracy on {TITLES[short]}, trained for {epochs} epochs"
            )
        else:
            what = {"mflops": "multiply-adds, pooling counted", "mparams": "parameters"}[rest]
            about = column_attributes("M", "lower", "raw", f"{what}, of the network for {TITLES[short]}")
        about["absent"] = "it was not published for this cell"
        columns[f"{DATASETS[short]}_{rest}"] = ([row[name] for row in rows], about)
    table = {"licence": "MIT", "citation": NB201, "decisions": CELL}
    write(out / "nasbench201.npz", [r["ops"] for r in rows], [int(r["rep_index"]) for r in rows], table, columns)


def hw_nas_bench(cells: Rows, rows: Rows, out: Path) -> None:
    """Write the table of HW-NAS-Bench; its source identifies cells by their number in the other table."""
    by_index = {row["index"]: row for row in rows}
    ordered = [by_index[row["index"]] for row in cells]
    columns: dict[str, Any] = {}
    for name in rows[0]:
        if name == "index":
            continue
        short, device, measure = name.split("_", 2)
        what, unit, better = MEASURES[measure]
        about = column_attributes(unit, better, "raw", f"{what} on {DEVICES[device]}, network for {TITLES[short]}")
        about["absent"] = "it does not run on the device"
        values = [row[name] for row in ordered]
        columns[f"{DATASETS[short]}_{device}_{measure}"] = (["" if value == "-1" else value for value in values], about)
    table = {"licence": "MIT", "citation": HW, "decisions": CELL}
    write(out / "hw_nas_bench.npz", [r["ops"] for r in cells], [int(r["rep_index"]) for r in cells], table, columns)


def nasbench_macro(rows: Rows, out: Path) -> None:
    """Write the table of NAS-Bench-Macro."""
    accuracy = "test accuracy on CIFAR-10"
    names = {
        "test_acc_1": ("test_1", column_attributes("%", "higher", "canonical", f"{accuracy}, first run")),
        "test_acc_2": ("test_2", column_attributes("%", "higher", "canonical", f"{accuracy}, second run")),
        "test_acc_3": ("test_3", column_attributes("%", "higher", "canonical", f"{accuracy}, third run")),
        "mean_acc": ("test_mean", column_attributes("%", "higher", "canonical", f"{accuracy}, mean of three runs")),
        "std": (
            "test_std",
            column_attributes("%", "lower", "canonical", f"{accuracy}, standard deviation of three runs"),
        ),
        "params": ("params", column_attributes("parameters", "lower", "raw", "parameters")),
        "flops": ("flops", column_attributes("multiply-adds", "lower", "raw", "multiply-adds")),
    }
    columns = {ours: ([row[theirs] for row in rows], about) for theirs, (ours, about) in names.items()}
    # Networks of the same function were trained once: all numbers of their rows are equal.
    groups: dict[tuple[str, ...], int] = {}
    same = [groups.setdefault(tuple(row[name] for name in names), place) for place, row in enumerate(rows)]
    about = {"licence": "Apache-2.0", "citation": MACRO, "decisions": LAYERS}
    write(out / "nasbench_macro.npz", [row["arch"] for row in rows], same, about, columns)


def main() -> None:
    """Write all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the CSV files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the tables")
    settings = parser.parse_args()
    cells = read(settings.folder / "nasbench201.csv.gz")
    nasbench201(cells, settings.out)
    hw_nas_bench(cells, read(settings.folder / "nasbench201_hw_nas_bench.csv.gz"), settings.out)
    nasbench_macro(read(settings.folder / "nasbench_macro_c10.csv.gz"), settings.out)


if __name__ == "__main__":
    main()
