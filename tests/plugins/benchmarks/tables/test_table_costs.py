"""Costs from tables: devices side by side, cells that do not run, limits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.run.api import search
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.testing import CostModelContract, ToySpace
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_benchmarks.tables.reader import TableSource
from automl_nas_benchmarks.tables.table_costs import HWNASBench, Listed, TableCost

CELLS = NASBench201()
DEAD_ON_EDGETPU = "300433"  # the first of the published table whose latency there is -1


class TestHWNASBench(CostModelContract):
    samples = 30

    def make_space(self) -> SearchSpace:
        return NASBench201()

    def make(self, space: SearchSpace) -> CostModel:
        return HWNASBench(space, device="pixel3")


class TestHWNASBenchOnAnotherDataset(TestHWNASBench):
    def make(self, space: SearchSpace) -> CostModel:
        return HWNASBench(space, device="eyeriss", measure="energy", dataset="imagenet16-120")


class TestTableCost(CostModelContract):
    samples = 30

    def make_space(self) -> SearchSpace:
        return NASBenchMacro()

    def make(self, space: SearchSpace) -> CostModel:
        return TableCost(space, table="nasbench_macro", column="flops")


class TestListed(CostModelContract):
    def make_space(self) -> SearchSpace:
        return ToySpace(blocks=2, options=3)

    def make(self, space: SearchSpace) -> CostModel:
        path = self.folder() / "table.csv"
        path.write_text("d0,d1\n0,0\n0,1\n2,1\n", encoding="utf-8")
        return Listed(space, source=TableSource(path, decisions=("d0", "d1")))

    def test_listed_counts_the_rows(self) -> None:
        space = self.make_space()
        model = self.make(space)
        estimates = {tuple(item.values()): model.estimate(item) for item in enumerate_all(space.decisions)}
        assert {pair for pair, value in estimates.items() if value} == {(0, 0), (0, 1), (2, 1)}


def test_hw_nas_bench_published_latencies_and_energies() -> None:
    # The first row of HW-NAS-Bench, cell 421211.
    cell = CELLS.architecture("421211")
    published = {
        ("edgegpu", "latency", "cifar10"): 5.80741854,
        ("edgegpu", "energy", "cifar10"): 24.2266143,
        ("raspi4", "latency", "cifar10"): 10.4819768,
        ("edgetpu", "latency", "cifar10"): 0.957181131,
        ("pixel3", "latency", "cifar100"): 5.04007,
        ("eyeriss", "energy", "cifar100"): 0.687420622,
        ("eyeriss", "arithmetic_intensity", "imagenet16-120"): 2.21489602,
        ("fpga", "energy", "imagenet16-120"): 4.54384,
    }
    for (device, measure, dataset), value in published.items():
        model = HWNASBench(CELLS, device=device, measure=measure, dataset=dataset)  # type: ignore[arg-type]
        assert model.estimate(cell) == value
        assert model.unit == {"latency": "ms", "energy": "mJ", "arithmetic_intensity": "ratio"}[measure]
        assert model.metric == f"{dataset}_{device}_{measure}".replace("-", "_")


def test_hw_nas_bench_uses_the_code_of_the_cell() -> None:
    # 041431 computes what an earlier cell computes, and runs an operation more.
    cell = CELLS.architecture("041431")
    first = CELLS.canonical(cell)
    model = HWNASBench(CELLS, device="pixel3")
    assert first != cell
    assert model.estimate(cell) == 8.48258
    assert model.estimate(first) != model.estimate(cell)


def test_hw_nas_bench_cell_that_does_not_run_exceeds_every_limit() -> None:
    model = HWNASBench(CELLS, device="edgetpu")
    cell = CELLS.architecture(DEAD_ON_EDGETPU)
    assert model.estimate(cell) == math.inf
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("tpu", "<= 1000")], {"tpu": model})
    assert not problem.feasible(cell)
    assert problem.violations(cell) == {"tpu <= 1000": math.inf}
    assert problem.feasible(CELLS.architecture("421211"))
    assert HWNASBench(CELLS, device="edgetpu", missing=50.0).estimate(cell) == 50.0


def test_hw_nas_bench_several_devices_in_a_run(tmp_path: Path) -> None:
    result = search(
        space="nasbench201",
        problem={
            "objectives": {"accuracy": "maximize", "phone": "minimize"},
            "constraints": {"board": "<= 5", "tpu": "<= 2"},
            "costs": {
                "phone": {"name": "hw_nas_bench", "device": "pixel3"},
                "board": {"name": "hw_nas_bench", "device": "fpga"},
                "tpu": {"name": "hw_nas_bench", "device": "edgetpu", "missing": 100},
                "mflops": {"name": "table_cost", "table": "nasbench201", "column": "cifar10_mflops"},
            },
        },
        runtime={"device": "cpu", "threads": 1},
        stages=[
            {"name": "search", "strategy": "random", "evaluator": "nasbench201", "budget": {"trials": 40}},
        ],
        final=None,
        out=tmp_path / "run",
    )
    table, devices = load_table("nasbench201"), load_table("hw_nas_bench")
    assert len(result.pareto) > 1
    for trial in result.pareto:
        row = table.row(trial.architecture)
        for cost, values in {
            "phone": devices.columns["cifar10_pixel3_latency"].values,
            "board": devices.columns["cifar10_fpga_latency"].values,
            "tpu": devices.columns["cifar10_edgetpu_latency"].values,
            "mflops": table.columns["cifar10_mflops"].values,
        }.items():
            # MFLOPs add up over the edges, so they come from a table of sums, on a grid of 2^-50 of their range.
            assert trial.costs[cost] == pytest.approx(values[row], rel=1e-9)
        assert trial.costs["board"] <= 5 and trial.costs["tpu"] <= 2


def test_table_cost_of_a_user_table(tmp_path: Path) -> None:
    path = tmp_path / "costs.csv"
    path.write_text("d0,ms\n0,3.5\n", encoding="utf-8")
    model = TableCost(ToySpace(blocks=1, options=2), column="ms", source=TableSource(path, decisions=("d0",)))
    assert model.estimate(Architecture({"d0": 0})) == 3.5
    assert model.breakdown(Architecture({"d0": 0})) == {"": 3.5}
    with pytest.raises(SpaceError, match="'d0' is 1; the table has only 0"):
        model.estimate(Architecture({"d0": 1}))


def test_table_cost_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="device: unknown device 'pixel'; did you mean 'pixel3'"):
        HWNASBench(CELLS, device="pixel")
    with pytest.raises(ConfigurationError, match="measure: 'raspi4' has no 'energy'; known: latency"):
        HWNASBench(CELLS, device="raspi4", measure="energy")
    with pytest.raises(ConfigurationError, match="whose decisions are 0>1"):
        HWNASBench(NASBenchMacro(), device="pixel3")
    with pytest.raises(ConfigurationError, match="no column 'mflops'"):
        TableCost(CELLS, table="nasbench201", column="mflops")
    with pytest.raises(ConfigurationError, match="'table_cost' needs a table"):
        TableCost(CELLS, column="mflops")
    with pytest.raises(ConfigurationError, match="'table' or 'source', not both"):
        TableCost(CELLS, column="a", table="nasbench201", source=TableSource(Path("a.csv"), codes="arch"))
