"""Evaluators that look results up: their outcomes, and candidates that a table lacks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.run.api import search
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.yaml import parse_yaml
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.testing import EvaluatorContract, ToySpace
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator, NASBenchMacroEvaluator, TabularEvaluator
from automl_nas_benchmarks.tables.reader import TableSource
from automl_nas_benchmarks.tables.table_space import TableSpace

CELLS, MACRO = NASBench201(), NASBenchMacro()
TEXT = "width,depth,accuracy,latency,truth\n8,1,1,3,10\n16,1,2,,20\n8,2,3,5,\n"


def ask(evaluator: Evaluator, architecture: Architecture, **more: Any) -> Outcome:
    (outcome,) = evaluator.evaluate([Request(7, architecture, **{"seed": 0, **more})])
    assert outcome.number == 7
    return outcome


class TestNASBench201(EvaluatorContract):
    def make_space(self) -> SearchSpace:
        return NASBench201()

    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        return NASBench201Evaluator(space)


class TestNASBench201AtAnotherFidelity(TestNASBench201):
    fidelity = 200


class TestNASBenchMacro(EvaluatorContract):
    samples = 4

    def make_space(self) -> SearchSpace:
        return NASBenchMacro()

    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        return NASBenchMacroEvaluator(space, run="seed")


class TestTabular(EvaluatorContract):
    def make_space(self) -> SearchSpace:
        path = self.folder() / "results.csv"
        rows = [f"{width},{depth},{width * depth / 100}" for width in (8, 16, 24) for depth in (1, 2)]
        path.write_text("\n".join(["width,depth,accuracy", *rows]), encoding="utf-8")
        return table_space(path)

    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        return TabularEvaluator(space, metrics={"acc": "accuracy"})


@pytest.mark.parametrize(
    ("settings", "accuracy"),
    [
        # The first row of the published table, 421211, which is its own representative.
        ({}, 63.364),
        ({"split": "test"}, 69.55),
        ({"epochs": 200}, 81.9),
        ({"epochs": 200, "split": "test"}, 85.863333),
        ({"dataset": "cifar100"}, 31.84),
        ({"dataset": "cifar100", "epochs": 200, "split": "test"}, 52.913333),
        ({"dataset": "imagenet16-120", "epochs": 200}, 25.766667),
        ({"dataset": "imagenet16-120", "epochs": 200, "split": "test"}, 26.633333),
    ],
)
def test_nasbench201_evaluator_settings_select_the_signal(settings: dict[str, Any], accuracy: float) -> None:
    outcome = ask(NASBench201Evaluator(CELLS, **settings), CELLS.architecture("421211"))
    assert outcome.metrics == {"accuracy": accuracy}


def test_nasbench201_evaluator_records_the_true_value_as_info() -> None:
    evaluator = NASBench201Evaluator(CELLS)
    outcome = ask(evaluator, CELLS.architecture("333132"))
    assert outcome.metrics == {"accuracy": 84.384}
    assert outcome.info == {"test_accuracy": 94.373333}
    assert ask(NASBench201Evaluator(CELLS, truth=False), CELLS.architecture("333132")).info == {}
    assert NASBench201Evaluator.metric_names(None) == {"accuracy"}


def test_nasbench201_evaluator_fidelity_is_the_number_of_epochs() -> None:
    evaluator = NASBench201Evaluator(CELLS, dataset="cifar100")
    architecture = CELLS.architecture("421211")
    assert ask(evaluator, architecture, fidelity=12).metrics == {"accuracy": 31.84}
    for fidelity in (200, 50, 0.5):  # CIFAR-100 has no validation accuracy after 200 epochs
        outcome = ask(evaluator, architecture, fidelity=fidelity)
        assert outcome.state is State.FAILED
        assert "number of epochs, 12, not" in outcome.error
    both = NASBench201Evaluator(CELLS)
    assert ask(both, architecture, fidelity=200.0).metrics == {"accuracy": 81.9}
    assert "12 or 200, not 50" in ask(both, architecture, fidelity=50).error


def test_nasbench201_evaluator_refuses_a_missing_column() -> None:
    with pytest.raises(ConfigurationError, match="no val accuracy on cifar100 after 200 epochs; use split: test"):
        NASBench201Evaluator(CELLS, dataset="cifar100", epochs=200)


def test_nasbench201_evaluator_fails_cells_without_a_value() -> None:
    evaluator = NASBench201Evaluator(CELLS, dataset="imagenet16-120", epochs=200, key="raw")
    outcome = ask(evaluator, CELLS.architecture("041431"))
    assert outcome.state is State.FAILED and outcome.metrics == {}
    assert "has no 'imagenet16-120_val_200' for 041431: it was not published for this cell" in outcome.error


def test_nasbench201_evaluator_key_raw_and_canonical() -> None:
    # From the published table: cell 8998, 041431, has the topology of cell 745, and was trained apart.
    cell = CELLS.architecture("041431")
    first = CELLS.canonical(cell)
    assert first != cell
    for key in ("canonical", "raw"):
        evaluator = NASBench201Evaluator(CELLS, epochs=200, split="test", key=key)
        one, other = ask(evaluator, cell).metrics["accuracy"], ask(evaluator, first).metrics["accuracy"]
        assert (one == other) == (key == "canonical")
        if key == "raw":
            assert one == 73.033333


def test_nasbench_macro_evaluator_runs() -> None:
    # 00000000 of the published table.
    architecture = MACRO.architecture("00000000")
    runs = {1: 45.32, 2: 45.33, 3: 45.44}
    for run, accuracy in runs.items():
        outcome = ask(NASBenchMacroEvaluator(MACRO, run=run), architecture)  # type: ignore[arg-type]
        assert outcome.metrics == {"accuracy": accuracy}
        assert outcome.info == {"mean_accuracy": 45.363332}
    assert ask(NASBenchMacroEvaluator(MACRO), architecture).metrics == {"accuracy": 45.363332}
    drawn = NASBenchMacroEvaluator(MACRO, run="seed")
    accuracies = [ask(drawn, architecture, seed=seed).metrics["accuracy"] for seed in range(6)]
    assert set(accuracies) == set(runs.values())
    assert "has no fidelities" in ask(drawn, architecture, fidelity=3).error


def test_table_evaluators_refuse_spaces_with_other_decisions() -> None:
    with pytest.raises(ConfigurationError, match="nasbench201 reads the table 'nasbench201', whose decisions are 0>1"):
        NASBench201Evaluator(MACRO)
    with pytest.raises(ConfigurationError, match="use the space of the table"):
        NASBenchMacroEvaluator(ToySpace())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "table.csv").write_text(TEXT, encoding="utf-8")
    return tmp_path / "table.csv"


def table_space(path: Path) -> TableSpace:
    return TableSpace(path=path, decisions=("width", "depth"), ordered=("width", "depth"))


def test_tabular_evaluator_of_a_user_table(path: Path) -> None:
    space = table_space(path)
    evaluator = TabularEvaluator(space, metrics={"acc": "accuracy", "ms": "latency"}, record=("truth",))
    outcome = ask(evaluator, space.validate({"width": 8, "depth": 1}))
    assert outcome.metrics == {"acc": 1.0, "ms": 3.0} and outcome.info == {"truth": 10.0}
    assert ask(evaluator, space.validate({"width": 8, "depth": 2})).info == {}
    missing = ask(evaluator, space.validate({"width": 16, "depth": 1}))
    assert missing.state is State.FAILED
    assert missing.error == "the table 'table.csv' has no 'latency' for 16|1: no value"
    outside = ask(evaluator, space.validate({"width": 16, "depth": 2}))
    assert outside.state is State.FAILED
    assert outside.error == "the table 'table.csv' has no row for '16|2' (it has 3)"
    assert "has no fidelities" in ask(evaluator, space.validate({"width": 8, "depth": 1}), fidelity=1).error


def test_tabular_evaluator_of_a_space_with_networks(path: Path) -> None:
    # The options of the space are numbers, and 2 of d0 does not occur in the table.
    path.write_text("d1,d0,code,accuracy\n0,0,00,1\n1,0,01,2\n0,1.0,10,3\n1,1.0,11,4\n2,1.0,12,5\n", encoding="utf-8")
    space = ToySpace(blocks=2, options=3)
    by_name, by_place = TableSource(path, decisions=("d1", "d0")), TableSource(path, codes="code")
    for source in (by_name, by_place):
        evaluator = TabularEvaluator(space, metrics=("accuracy",), source=source)
        outcomes = [ask(evaluator, space.validate({"d0": d0, "d1": d1})) for d0 in (0, 1) for d1 in (0, 1, 2)]
        assert [outcome.metrics.get("accuracy") for outcome in outcomes] == [1.0, 2.0, None, 3.0, 4.0, 5.0]
        assert "has no row for" in outcomes[2].error
        assert "'d0' is 2; the table has only 0, 1" in ask(evaluator, space.validate({"d0": 2, "d1": 0})).error


def test_tabular_evaluator_refuses_a_table_of_another_space(path: Path) -> None:
    source = TableSource(path, decisions=("width", "depth"))
    with pytest.raises(ConfigurationError, match="whose decisions are width, depth; those of the space are d0, d1, d2"):
        TabularEvaluator(ToySpace(blocks=3), metrics=("accuracy",), source=source)
    path.write_text("d0,d1,accuracy\nconv,0,1\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"'d0' is one of conv; in the space 'd0' is one of \(0, 1, 2\)"):
        TabularEvaluator(ToySpace(blocks=2), metrics=("accuracy",), source=TableSource(path, decisions=("d0", "d1")))


def test_tabular_evaluator_settings_are_checked(path: Path) -> None:
    space = table_space(path)
    with pytest.raises(ConfigurationError, match=r"metrics: .* no column 'accuracies'; did you mean 'accuracy'"):
        TabularEvaluator(space, metrics=("accuracies",))
    with pytest.raises(ConfigurationError, match=r"record: .* no column 'thruth'; did you mean 'truth'"):
        TabularEvaluator(space, metrics=("accuracy",), record=("thruth",))
    with pytest.raises(ConfigurationError, match="at least one column"):
        TabularEvaluator(space, metrics=())
    with pytest.raises(ConfigurationError, match="'tabular' needs a table, and the space is not a table"):
        TabularEvaluator(CELLS, metrics=("accuracy",))


def test_documented_tabular_configuration_resolves() -> None:
    text = (Path(__file__).parents[4] / "docs" / "how_to" / "benchmarks.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    plan = make_plan(parse_yaml(shown, "benchmarks.md").value, complete_manager().registry)
    assert set(plan.stages[0].problem.cost_models) == {"phone", "gpu"}


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ({"dataset": "cifar-10"}, r"stages\[0\].evaluator.dataset: .*'cifar10', 'cifar100' or 'imagenet16-120'"),
        ({"epochs": 90}, r"stages\[0\].evaluator.epochs: .*12 or 200"),
        ({"split": "train"}, r"stages\[0\].evaluator.split: .*'val' or 'test'"),
        ({"data": "cifar10"}, "has no setting 'data'; did you mean 'dataset'"),
    ],
)
def test_table_evaluators_refuse_unknown_data_sets_and_fidelities(evaluator: dict[str, Any], message: str) -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": {"name": "nasbench201", **evaluator}}
    problem = {"objectives": {"accuracy": "maximize"}, "costs": []}
    with pytest.raises(ConfigurationError, match=message):
        make_plan({"space": "nasbench201", "problem": problem, "stages": [stage]}, complete_manager().registry)


@pytest.mark.process
def test_importing_the_tables_does_not_import_torch() -> None:
    code = (
        "import automl_nas_benchmarks.benchmark, automl_nas_benchmarks.tables.evaluators, sys; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_search_of_each_table_from_a_configuration(path: Path, tmp_path: Path) -> None:
    def run(name: str, space: Any, evaluator: Any, metric: str, trials: int, **problem: Any) -> Any:
        return search(
            space=space,
            problem={"objectives": {metric: "maximize"}, "costs": [], **problem},
            runtime={"device": "cpu", "threads": 1},
            stages=[{"name": "search", "strategy": "random", "evaluator": evaluator, "budget": {"trials": trials}}],
            final=None,
            out=tmp_path / name,
        )

    own = {"name": "table", "path": str(path), "decisions": ["width", "depth"]}
    tabular = {"name": "tabular", "metrics": {"acc": "accuracy"}, "record": ["truth"]}
    best = run("own", own, tabular, "acc", 4).best
    assert best.metrics == {"acc": 3.0}
    lines = (tmp_path / "own" / "trials.jsonl").read_text(encoding="utf-8")
    assert lines.count('"failed"') == 1  # 16|2 is not in the table
    # Inside the table, nothing fails.
    run("listed", own, tabular, "acc", 4, costs=["listed"], constraints={"listed": ">= 1"})
    assert '"failed"' not in (tmp_path / "listed" / "trials.jsonl").read_text(encoding="utf-8")
    assert run("cells", "nasbench201", "nasbench201", "accuracy", 30).best.metrics["accuracy"] > 60
    macro = run("macro", "nasbench_macro", {"name": "nasbench_macro", "run": 1}, "accuracy", 30)
    assert macro.best.metrics["accuracy"] > 85
    with pytest.raises(ConfigurationError, match="test_accuracy"):
        run("cheat", "nasbench201", "nasbench201", "test_accuracy", 30)
