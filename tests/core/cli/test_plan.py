"""``automl-nas plan`` and ``automl-nas run --smoke``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

FEASIBLE = 23
"""Assignments of three decisions with values 0, 1, 2 whose sum is at most 4: 27 - 3 (sum 5) - 1 (sum 6)."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_plan_of_a_run(program: Any, temporary: Path) -> None:
    before = set(program.folder.rglob("*"))
    plan = json.loads(program("plan", program.config, "--json").stdout)
    assert (plan["size"], plan["decisions"]) == (27, 3)
    (part,) = plan["feasibilities"]
    assert (part["count"], part["share"], part["samples"]) == (FEASIBLE, FEASIBLE / 27, 0)
    assert part["limits"] == ["toy_cost <= 4"]
    ranges = {cost["name"]: (cost["smallest"], cost["largest"], cost["exact"]) for cost in part["costs"]}
    assert ranges["toy_cost"] == (0, 6, True)
    search, final = plan["stages"]
    assert (search["name"], search["work"], search["unit"]) == ("search", 12, "trials")
    # 32 + 16 samples, since the search split is trained on too; 3 networks.
    assert (final["name"], final["unit"]) == ("final", "iterations")
    assert final["work"] % 3 == 0
    assert plan["seconds"] == pytest.approx(plan["preparation"] + search["seconds"] + final["seconds"])
    assert plan["memory"] > 2**20
    assert set(program.folder.rglob("*")) - before <= {temporary} | set(program.folder.rglob("__pycache__/*"))
    assert not list(temporary.glob("automl_nas*"))


def test_the_work_of_the_plan_is_that_of_the_run(program: Any) -> None:
    plan = json.loads(program("plan", program.config, "--json").stdout)
    program("run", program.config, "--out", "run")
    lines = [json.loads(line) for line in (program.folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert plan["stages"][1]["work"] == max(line["step"] for line in lines if line["stage"] == "final")


def test_a_smoke_run_does_every_stage_and_writes_nothing(program: Any, temporary: Path) -> None:
    shown = program("run", program.config, "--smoke").stdout
    assert "stage 'search': passed" in shown
    assert "stage 'final': passed" in shown
    assert not list(temporary.glob("automl_nas*"))
    assert not (program.folder / "runs").exists()


def test_a_smoke_run_finds_an_evaluator_that_fails(program: Any) -> None:
    program.install(
        "failing",
        """
from automl_nas.plugin import hookimpl

@hookimpl
def register_evaluators(register):
    register("failing", "failing_package.parts:Failing", summary="always fails")
""",
        """
from automl_nas.evaluation import Evaluator

class Failing(Evaluator):
    def evaluate(self, requests):
        for request in requests:
            raise ValueError("no such sensor")
        yield

    @classmethod
    def metric_names(cls, task):
        return frozenset({"accuracy"})
""",
    )
    result = program("run", program.config, "--smoke", "--set", "stages.search.evaluator=failing", code=1)
    assert "no such sensor" in result.stderr


def test_smoke_and_out_exclude_each_other(program: Any) -> None:
    assert "--smoke writes nothing" in program("run", program.config, "--smoke", "--out", "x", code=2).stderr


def test_the_plan_shows_what_a_time_budget_shortens(program: Any) -> None:
    options = ("--set", "budget.minutes=600")
    shown = program("plan", program.config, *options).stdout
    assert "time budget: nothing is shortened; estimate" in shown
    plan = json.loads(program("plan", program.config, "--json", *options).stdout)
    assert plan["budget"]["shortened"] == {}
    assert plan["budget"]["seconds"].keys() == {"search", "final"}
    error = program("plan", program.config, "--set", "budget.minutes=1e-6", code=2).stderr
    assert "budget.minutes: 1e-06 minutes are too few" in error
