"""Costs predicted from samples: against planted truths, a scikit-learn posterior, and the devices of HW-NAS-Bench."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation.costs.measured import MeasuredCost, Measurement
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.toys import ToySpace
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_costs.prediction.accuracy import accuracy
from automl_nas_costs.prediction.features import Reduced
from automl_nas_costs.prediction.predicted_costs import CostPredictor, LatencyPredictor
from automl_nas_costs.prediction.predictor import Predictor
from automl_nas_costs.prediction.regressors import GaussianProcess
from automl_nas_costs.prediction.samples import draw
from automl_nas_costs.prediction.table_files import SampleFile

CELLS = NASBench201()


class Planted(CostModel):
    """A sum over the decisions of a space, known in advance."""

    metric, unit = "planted", "ms"

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        checked = self._space.validate(architecture)
        codes = [decision.encode(checked[name])[0] for name, decision in self._space.decisions.items()]
        return {"": 3.0 + sum((place + 1) * code for place, code in enumerate(codes))}


class Stopwatch(MeasuredCost):
    """Measures by counting parameters; records the size of each session."""

    metric, unit, exported_suffix = "stopwatch_ms", "ms", ".bin"

    def __init__(self) -> None:
        self.sessions: list[int] = []

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        raise AssertionError("a predictor measures networks")

    def measure(self, networks: Sequence[Any], input_shape: Sequence[int]) -> list[Measurement]:
        self.sessions.append(len(networks))
        sizes = [1.0 + sum(p.numel() for p in network.parameters()) for network in networks]
        return [Measurement(size, 0.9 * size, 1.1 * size) for size in sizes]

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        return [Measurement(float(len(str(path))), 0.0, 1e9) for path in paths]


class TestCostPredictorContract(CostModelContract):
    def make_space(self) -> SearchSpace:
        return NASBench201(channels=2, cells=1)

    def make(self, space: SearchSpace) -> CostModel:
        return CostPredictor(space, of=Planted(space), samples=20, model="additive")


def test_a_sum_over_decisions_is_found_and_is_a_table() -> None:
    predictor = CostPredictor(CELLS, of=Planted(CELLS), samples=60, model="additive")
    table = CostTable.build(predictor, CELLS)
    drawn = [CELLS.sample(stream(1, "test", number)) for number in range(30)]
    truth = np.array([Planted(CELLS).estimate(architecture) for architecture in drawn])
    # The penalty of the ridge is the smallest tried, 1e-4, of samples whose products are tens.
    assert np.allclose([table.estimate(architecture) for architecture in drawn], truth, rtol=1e-3)
    assert np.allclose(predictor.estimates(table.encode(drawn)), truth, rtol=1e-3)
    assert predictor.fitted.accuracy.within_10 == 1


def test_unread_results_and_zeros_are_told_apart() -> None:
    used, live = Reduced(CELLS, "used"), Reduced(CELLS, "live")
    # No edge reads node 1: edge 0>1 is moot in both codings.
    unread = CELLS.architecture("303020")
    assert CELLS.code(used(unread)) == CELLS.code(live(unread))
    # Node 1 is all zeros: edge 1>3 still runs where values of inputs are not known.
    zeros = CELLS.architecture("030131")
    assert CELLS.code(used(zeros)) == "030131"
    assert CELLS.code(live(zeros)) == "030101"
    assert Reduced(CELLS, "raw")(unread) is unread


def test_used_is_dead_code_elimination() -> None:
    """Against a walk backwards from the output over the edges of the cell, on every fifth cell."""
    edges = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    used = Reduced(CELLS, "used")
    for code in load_table("nasbench201").codes[::25]:
        read, operations = {3}, dict(zip(edges, code, strict=True))
        for node in (2, 1):
            if any(operations[edge] != "0" for edge in edges if edge[0] == node and edge[1] in read):
                read.add(node)
        expected = "".join(operations[edge] if edge[1] in read else "0" for edge in edges)
        assert CELLS.code(used(CELLS.architecture(code))) == expected


def test_the_posterior_is_that_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, WhiteKernel

    draws = np.random.default_rng(0)
    x, more = draws.random((30, 5)), draws.random((7, 5))
    y = 2.0 + x @ np.arange(5) + np.sin(4 * x[:, 0])
    mine = GaussianProcess().fit(x, y)
    assert isinstance(mine, GaussianProcess)
    kernel = ConstantKernel(mine._sizes[0]) * DotProduct(1.0) + ConstantKernel(mine._sizes[1]) * RBF(mine._length)
    theirs = GaussianProcessRegressor(kernel + WhiteKernel(mine.noise), optimizer=None, normalize_y=True).fit(x, y)
    # Both solve the same 30 equations; their condition is at most about 30 / noise.
    assert np.allclose(mine.predict(more), theirs.predict(more), rtol=1e-6)


def test_equal_costs_are_predicted_exactly() -> None:
    draws = np.random.default_rng(0)
    mine = GaussianProcess().fit(draws.random((30, 5)), np.full(30, 0.1))
    assert mine.predict(draws.random((7, 5))).tolist() == [0.1] * 7


@pytest.mark.parametrize(
    ("device", "coding"), [("edgegpu", {"used"}), ("edgetpu", {"used", "live"}), ("fpga", {"raw"})]
)
def test_a_right_coding_is_chosen_from_samples(device: str, coding: set[str]) -> None:
    """Compilers of the devices differ in what they remove; the published latencies show it."""
    table = load_table("hw_nas_bench")
    values = table.column(f"cifar10_{device}_latency").values
    places = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(values)))
    cells = [table.coding.architecture(table.codes[place]) for place in places[:600]]
    truth = values[places[:600]]
    predictor = Predictor(CELLS, cells[:100], truth[:100].tolist(), folds=3)
    assert predictor.chosen.coding in coding
    unseen = accuracy(predictor.predict(cells[100:]), truth[100:])
    # The estimate rests on 100 cells: a share of them has a standard error of up to 0.05, here three of them.
    assert abs(predictor.accuracy.within_10 - unseen.within_10) < 0.15
    raw = Predictor(CELLS, cells[:100], truth[:100].tolist(), model="additive")
    assert unseen.tau >= accuracy(raw.predict(cells[100:]), truth[100:]).tau - 1e-3


@pytest.mark.parametrize("script", ["cost_rates", "device_prediction", "latency_prediction"])
def test_benchmarks_report_what_the_default_settings_predict(script: str) -> None:
    """A benchmark that turned off a default would report a predictor that no user has."""
    source = Path(__file__).parents[3] / "benchmarks" / f"{script}.py"
    calls = [
        node
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Predictor"
    ]
    assert calls
    assert {keyword.arg for call in calls for keyword in call.keywords} <= {"seed"}
    of_user, of_class = (inspect.signature(each).parameters for each in (CostPredictor, Predictor))
    for name in ("model", "counts", "folds", "seed"):
        assert of_user[name].default == of_class[name].default


def test_samples_are_measured_once_and_kept() -> None:
    space, watch = ToySpace(), Stopwatch()
    model = LatencyPredictor(space, latency=watch, samples=12, at_once=8, counts=False)
    assert (model.metric, model.exported_suffix) == ("stopwatch_ms", ".bin")
    architecture = space.sample(stream(5, "test"))
    value = model.estimate(architecture)
    model.breakdown(architecture)
    assert watch.sessions == [8, 4] or sum(watch.sessions) == min(12, space.size)
    state = json.loads(json.dumps(model.state_dict()))
    assert state["accuracy"]["count"] == len(state["samples"])
    again = LatencyPredictor(space, latency=(other := Stopwatch()), samples=12, counts=False)
    again.load_state_dict(state)
    assert again.estimate(architecture) == value
    assert other.sessions == []
    assert model.measure([space.build(architecture)], space.input_shape)[0].value >= 1
    assert model.measure_files([Path("abc")])[0].value == 3


def test_draws_are_distinct() -> None:
    assert len(set(draw(CELLS, 500, 0))) == 500
    small = ToySpace()
    assert len(draw(small, small.size + 5, 0)) == small.size


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_files_of_all_kinds_say_the_same(tmp_path: Path) -> None:
    cells = draw(CELLS, 30, 0)
    values = [Planted(CELLS).estimate(cell) for cell in cells]
    names = list(CELLS.decisions)
    pairs = list(zip(cells, values, strict=True))
    rows = [",".join([*(str(cell[name]) for name in names), str(value)]) for cell, value in pairs]
    columns = write(tmp_path / "a.csv", "\n".join([",".join([*names, "value"]), *rows]))
    codes = "\n".join(["code,ms", *(f"{CELLS.code(c)},{v}" for c, v in pairs), "000000,-1"])
    coded = write(tmp_path / "b.csv.gz", codes)
    listed = [{"architecture": c.to_dict(), "value": v} for c, v in pairs]
    rows_file = write(tmp_path / "c.json", json.dumps(listed))
    files = [SampleFile(columns), SampleFile(coded, "ms", "code", absent=("-1",)), SampleFile(rows_file)]
    asked = CELLS.sample(stream(9, "test"))
    estimates = [CostPredictor(CELLS, file=file, model="additive").estimate(asked) for file in files]
    assert estimates[0] == estimates[1] == estimates[2]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "code,value\n00000,1\n", "sample 1"),
        ("a.csv", "code,value\n000009,1\n", "number 6 of the code is 9"),
        ("a.csv", "code,value\n000000,fast\n", "not a number"),
        ("a.csv", "code,values\n000000,1\n", "did you mean 'values'"),
        ("a.csv", "code,value\n000000\n", "line 2"),
        ("a.json", "[1]", "must hold a list"),
        ("a.json", "{", "not valid JSON"),
        ("b.csv.gz", None, "cannot be read"),
    ],
)
def test_a_file_that_is_wrong_is_located(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    path = tmp_path / name
    if text is not None:
        write(path, text)
    with pytest.raises(DataError, match=said):
        CostPredictor(CELLS, file=SampleFile(path, code="code"))


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="either"):
        CostPredictor(CELLS)
    with pytest.raises(ConfigurationError, match="at least 10"):
        LatencyPredictor(CELLS, samples=3)
    with pytest.raises(ConfigurationError, match="at_once"):
        LatencyPredictor(CELLS, at_once=0)
    cells = draw(CELLS, 12, 0)
    with pytest.raises(ConfigurationError, match="folds"):
        Predictor(CELLS, cells, [1.0] * 12, folds=13)
    with pytest.raises(DataError, match="above 0"):
        Predictor(CELLS, cells, [0.0] * 12)
    with pytest.raises(DataError, match="at least 10 samples"):
        Predictor(CELLS, cells[:9], [1.0] * 9)
