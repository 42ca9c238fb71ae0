"""The tables of the plugin equal the published ones, number for number."""

from __future__ import annotations

import csv
import gzip
import math
import runpy
from collections import defaultdict
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space.operators import enumerate_all
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_benchmarks.tables.packaged import TABLES, load_table
from automl_nas_benchmarks.tables.table import Table

PUBLISHED = Path(__file__).parents[5] / "shared" / "data"
DATASETS = {"c10": "cifar10", "c100": "cifar100", "in16": "imagenet16-120"}

with_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published tables are not here")


def published(name: str) -> dict[str, list[str]]:
    """Column -> its cells."""
    with gzip.open(PUBLISHED / name, "rt", encoding="utf-8") as file:
        head, *lines = csv.reader(file)
        return dict(zip(head, map(list, zip(*lines, strict=True)), strict=True))


def values(table: Table, column: str) -> dict[str, float]:
    return dict(zip(table.codes, table.columns[column].values.tolist(), strict=True))


def assert_holds(table: Table, column: str, codes: list[str], cells: list[str], absent: str = "") -> None:
    have = table.columns[column].values[[table.find(code) for code in codes]]
    expected = np.array([math.nan if cell == absent else float(cell) for cell in cells])
    assert len(have) == len(table)
    assert np.array_equal(have, expected, equal_nan=True)


def renamed(column: str) -> str:
    short, _, rest = column.partition("_")
    return f"{DATASETS[short]}_{rest}"


@with_published
def test_every_number_of_nasbench201_is_the_published_one() -> None:
    cells, table = published("nasbench201.csv.gz"), load_table("nasbench201")
    columns = [name for name in cells if name.partition("_")[0] in DATASETS]
    assert {renamed(name) for name in columns} == set(table.columns)
    for name in columns:
        assert_holds(table, renamed(name), cells["ops"], cells[name])


@with_published
def test_representatives_are_the_first_published_cells_of_the_same_topology() -> None:
    cells, table = published("nasbench201.csv.gz"), load_table("nasbench201")
    assert table.representatives is not None
    by_index = dict(zip(cells["index"], cells["ops"], strict=True))
    have = {code: table.codes[place] for code, place in zip(table.codes, table.representatives, strict=True)}
    assert have == {code: by_index[first] for code, first in zip(cells["ops"], cells["rep_index"], strict=True)}


@with_published
def test_every_number_of_hw_nas_bench_is_the_published_one() -> None:
    first = published("nasbench201.csv.gz")
    by_index = dict(zip(first["index"], first["ops"], strict=True))
    cells, table = published("nasbench201_hw_nas_bench.csv.gz"), load_table("hw_nas_bench")
    codes = [by_index[index] for index in cells.pop("index")]
    assert {renamed(name) for name in cells} == set(table.columns)
    for name, column in cells.items():
        assert_holds(table, renamed(name), codes, column, absent="-1")


@with_published
def test_every_number_of_nasbench_macro_is_the_published_one() -> None:
    cells, table = published("nasbench_macro_c10.csv.gz"), load_table("nasbench_macro")
    names = {"mean_acc": "test_mean", "std": "test_std", "params": "params", "flops": "flops"}
    names |= {f"test_acc_{run}": f"test_{run}" for run in (1, 2, 3)}
    assert set(names.values()) == set(table.columns)
    for theirs, ours in names.items():
        assert_holds(table, ours, cells["arch"], cells[theirs])


@pytest.mark.parametrize(
    ("dataset", "best", "code"),
    [("cifar10", 94.37, "333132"), ("cifar100", 73.51, "333133"), ("imagenet16-120", 47.31, "223133")],
)
@pytest.mark.parametrize("key", ["raw", "canonical"])
def test_the_published_optima_are_in_the_table(dataset: str, best: float, code: str, key: str) -> None:
    table = load_table("nasbench201")
    accuracies = table.lookup(f"{dataset}_test_200", key).values  # type: ignore[arg-type]
    assert round(max(accuracies), 2) == best
    assert accuracies[table.find(code)] == max(accuracies)


def test_the_published_optimum_of_nasbench_macro_is_in_the_table() -> None:
    table = load_table("nasbench_macro")
    accuracies = values(table, "test_mean")
    top = max(accuracies.values())
    best = {code for code, accuracy in accuracies.items() if accuracy == top}
    assert best == {"22212220", "22212202"}  # the same network: an identity before or behind the last block
    assert round(accuracies["22212220"], 2) == 93.13


def test_sizes_of_nasbench201_are_the_sum_of_its_operations() -> None:
    # Pooling is counted; dead operations are too, so the sum holds for every code.
    table = load_table("nasbench201")
    mflops, mparams = values(table, "cifar10_mflops"), values(table, "cifar10_mparams")
    for code in table.codes:
        narrow, wide, pools = (code.count(symbol) for symbol in "234")
        # Published with six decimals, the coefficients too: six of them are off by half a unit at most.
        assert mflops[code] == pytest.approx(7.943872 + 4.36224 * narrow + 35.81952 * wide + 1.29024 * pools, abs=4e-6)
        assert mparams[code] == pytest.approx(0.073306 + 0.028 * narrow + 0.24304 * wide, abs=4e-6)


def test_packaged_tables_are_complete_and_keep_leading_zeros() -> None:
    for name, options, length in (("nasbench201", 5, 6), ("hw_nas_bench", 5, 6), ("nasbench_macro", 3, 8)):
        table = load_table(name)
        assert table.complete and len(table) == options**length
        assert table.codes[0] == "0" * length
        assert sorted(table.codes) == list(table.codes)


@pytest.mark.parametrize(
    ("name", "space", "distinct"), [("nasbench201", NASBench201(), 6466), ("nasbench_macro", NASBenchMacro(), 3969)]
)
def test_spaces_and_tables_agree_on_which_networks_are_the_same(
    name: str, space: NASBench201 | NASBenchMacro, distinct: int
) -> None:
    table = load_table(name)
    table.check(space, "the test")
    groups: dict[object, set[int]] = defaultdict(set)
    for architecture in enumerate_all(space.decisions):
        row = table.row(architecture)
        assert table.codes[row] == space.code(architecture)
        groups[space.canonical(architecture)].add(table.representative(row))
    assert len(groups) == distinct
    assert all(len(rows) == 1 for rows in groups.values())


def test_packaged_tables_equal_functions_share_rows_only_on_nasbench_macro() -> None:
    # The statements of the documentation on the keys.
    macro = load_table("nasbench_macro")
    assert macro.representatives is not None
    for column in macro.columns.values():
        assert np.array_equal(column.values, column.values[macro.representatives])
    cells = load_table("nasbench201")
    assert cells.representatives is not None
    accuracies = cells.columns["cifar10_test_200"].values
    members: dict[int, list[float]] = defaultdict(list)
    for row, first in enumerate(cells.representatives.tolist()):
        members[first].append(accuracies[row])
    several = [group for group in members.values() if len(group) > 1]
    assert len(several) == 1350
    assert sum(len(set(group)) > 1 for group in several) / len(several) > 0.95
    within = [np.var(group, ddof=1) * (len(group) - 1) for group in several]
    pooled = math.sqrt(sum(within) / sum(len(group) - 1 for group in several))
    assert round(pooled, 2) == 0.25
    # On devices they differ much more: operations without an effect run as well.
    latencies = load_table("hw_nas_bench").columns["cifar10_raspi4_latency"].values
    by_function: dict[int, list[float]] = defaultdict(list)
    for row, first in enumerate(cells.representatives.tolist()):
        by_function[first].append(latencies[row])
    assert max(max(group) - min(group) for group in by_function.values()) > 40


def test_hw_nas_bench_cells_that_do_not_run_have_no_latency() -> None:
    table = load_table("hw_nas_bench")
    missing = {name: int(np.isnan(column.values).sum()) for name, column in table.columns.items()}
    assert {name for name, count in missing.items() if count} == {
        f"{dataset}_edgetpu_latency" for dataset in DATASETS.values()
    }
    assert set(missing.values()) == {0, 4699}
    assert all((column.values[~np.isnan(column.values)] > 0).all() for column in table.columns.values())


def test_packaged_tables_are_small_cited_and_read_only() -> None:
    folder = resources.files("automl_nas_benchmarks") / "data"
    files = {item.name: len(item.read_bytes()) for item in folder.iterdir() if item.name.endswith(".npz")}
    assert set(files) == {f"{name}.npz" for name in TABLES}
    assert sum(files.values()) < 2_000_000
    for name in TABLES:
        table = load_table(name)
        assert table.licence in ("MIT", "Apache-2.0")
        assert "20" in table.citation and "arXiv" in table.citation
        for column in table.columns.values():
            assert column.unit and column.about
            with pytest.raises(ValueError, match="read-only"):
                column.values[0] = 1.0


@with_published
def test_make_tables_reproduces_the_package_data(tmp_path: Path) -> None:
    # One of the three: the others take seconds, and their numbers are compared above.
    script = runpy.run_path(str(resources.files("automl_nas_benchmarks") / "data" / "make_tables.py"))
    script["nasbench_macro"](script["read"](PUBLISHED / "nasbench_macro_c10.csv.gz"), tmp_path)
    with resources.files("automl_nas_benchmarks").joinpath("data/nasbench_macro.npz").open("rb") as file:
        written, packaged = np.load(tmp_path / "nasbench_macro.npz"), np.load(file)
        assert written.files == packaged.files
        assert all(
            np.array_equal(written[key], packaged[key]) and written[key].dtype == packaged[key].dtype
            for key in written.files
        )


def test_load_table_offers_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'nasbench201'"):
        load_table("nasbench-201")
    table = load_table("nasbench201")
    with pytest.raises(ConfigurationError, match="did you mean 'cifar10_val_12'"):
        table.lookup("cifar10_val_13")


def test_table_refuses_architectures_that_it_lacks() -> None:
    cells, macro = load_table("nasbench201"), load_table("nasbench_macro")
    with pytest.raises(SpaceError, match="no decision 'layer_1'"):
        macro.row(NASBench201().architecture("000000"))
    with pytest.raises(SpaceError, match="'0>1' is 'max_pool'; the table has only"):
        cells.row(NASBench201().architecture("000000").replace({"0>1": "max_pool"}))
    with pytest.raises(SpaceError, match="5 symbols for 6 decisions"):
        cells.find("33313")
    with pytest.raises(SpaceError, match="unknown symbol '7' for '0>1'"):
        cells.find("733132")
    with pytest.raises(ConfigurationError, match="whose decisions are layer_1"):
        macro.check(NASBench201(), "the test")
