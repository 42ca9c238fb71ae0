"""``automl-nas check``: the clauses of a contract without pytest, for everything that has a contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from automl_nas.cli.app import cli
from automl_nas.cli.check_contracts import contract_for, targets
from automl_nas.errors import ConfigurationError
from automl_nas.run import complete_manager
from automl_nas.testing import (
    AskTellContract,
    CommandContract,
    CostModelContract,
    EvaluatorContract,
    ExecutorContract,
    ExporterContract,
    ObserverContract,
    PluginContract,
    StrategyContract,
    SupernetContract,
    TaskContract,
    clauses,
)

COSTS = """
from automl_nas.testing import ToyCost

class Negative(ToyCost):
    def breakdown(self, architecture):
        return {name: -1.0 for name in architecture}

class Good(ToyCost):
    pass
"""


@pytest.fixture
def own_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a module with cost models in the working directory."""
    (tmp_path / "own_costs_of_this_test.py").write_text(COSTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return "own_costs_of_this_test"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments])


@pytest.mark.process
def test_a_broken_component_is_reported_with_the_way_out(own_costs: str) -> None:
    """As text, as JSON, and with the exit code 1."""
    shown = run(f"{own_costs}:Negative", "--json")
    assert shown.exit_code == 1, shown.output
    report = json.loads(shown.output)
    (component,) = report["components"]
    broken = [clause for clause in component["clauses"] if not clause["passed"]]
    assert len(broken) == report["broken"] > 0
    assert all(clause["finding"] and clause["way_out"] and clause["promise"] for clause in broken)
    assert report["clauses"] == len(component["clauses"]) == len(clauses(CostModelContract))


@pytest.mark.process
def test_a_component_that_keeps_its_contract_exits_with_0(own_costs: str) -> None:
    shown = run(f"{own_costs}:Good", "--declare", "metric=toy_cost")
    assert shown.exit_code == 0, shown.output
    count = len(clauses(CostModelContract))
    assert shown.output.splitlines()[-1] == f"{count} of {count} clauses passed"
    assert shown.output.count("  passed  ") == count


@pytest.mark.parametrize(
    ("name", "kind", "settings", "contract"),
    [
        ("evolution", "strategies", {"population": 4}, AskTellContract),
        ("single_path", "strategies", {"train": {"epochs": 1}}, StrategyContract),
        ("signal_cnn", "spaces", {}, SupernetContract),
        ("supernet_weights", "evaluators", {"recalibration_images": 16}, EvaluatorContract),
        ("params", "cost_models", {}, CostModelContract),
        ("digits", "tasks", {}, TaskContract),
        ("safetensors", "exporters", {}, ExporterContract),
        ("in_process", "executors", {}, ExecutorContract),
        ("processes", "executors", {}, ExecutorContract),
        ("csv", "observers", {}, ObserverContract),
        ("report", "commands", {}, CommandContract),
        ("automl_nas_evolution", "plugins", {}, PluginContract),
    ],
)
def test_every_kind_has_its_contract(name: str, kind: str, settings: dict[str, Any], contract: type) -> None:
    """And its component is constructed with what a run would supply."""
    made: Any = contract_for(kind, name, settings, "", {})
    assert isinstance(made, contract)
    if kind == "executors":
        assert made.stops == (name == "processes")
    elif kind == "strategies" and contract is StrategyContract:
        made.make(1)
    elif kind == "evaluators":
        made.make_evaluator(made.make_space())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evolution", {("strategies", "evolution")}),
        ("automl-nas", {("plugins", "automl_nas_evolution"), ("cost_models", "flops"), ("commands", "report")}),
        ("vision", {("plugins", "automl_nas_vision"), ("tasks", "digits")}),
        ("report", {("commands", "report"), ("plugins", "automl_nas_report")}),
    ],
)
def test_names_mean_components_commands_plugins_and_distributions(name: str, expected: set[tuple[str, str]]) -> None:
    found = {(target.kind, target.name) for target in targets(name, None, complete_manager())}
    assert expected <= found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evolutoin",), "did you mean 'evolution'"),
        (("json:loads",), "json:loads is not a component"),
        (("nothing.like:This",), "cannot import nothing.like:This"),
        (("evolution", "--set", "population"), "must be KEY=VALUE"),
        (("evolution", "--set", "populatoin=3"), "did you mean 'population'"),
        (("evolution", "--declare", "may_repaet=true"), "did you mean 'may_repeat'"),
        (("vision", "--set", "batch_size=8"), "settings and declarations belong to one"),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[str, ...], message: str) -> None:
    shown = run(*arguments)
    assert shown.exit_code != 0
    if isinstance(shown.exception, ConfigurationError):
        assert message in str(shown.exception)
    else:
        assert message in shown.output


@pytest.mark.parametrize(("settings", "expected"), [({}, 200), ({"population": 30}, 60), ({"population": 8}, 45)])
def test_a_search_is_as_long_with_results_as_without(settings: dict[str, Any], expected: int) -> None:
    """Regularised evolution learns nothing before its population, 100 by default, is complete."""
    contract = contract_for("strategies", "regularized_evolution", settings, "", {})
    assert isinstance(contract, AskTellContract)
    assert contract.trials == expected
    declared = contract_for("strategies", "regularized_evolution", settings, "", {"trials": 50})
    assert isinstance(declared, AskTellContract) and declared.trials == 50
