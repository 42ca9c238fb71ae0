"""Evaluators inside the settings of other components, as Python objects and classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.evaluation import Evaluator, Outcome, Request
from automl_nas.testing import ToySpace


class Counts(Evaluator):
    """Measures the number of decisions with their first option, times a factor.

    Args:
        factor: of the number.
    """

    def __init__(self, *, factor: float = 1.0) -> None:
        self._factor = factor

    @classmethod
    def metric_names(cls, task: object) -> frozenset[str]:
        return frozenset(["count"])

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        decisions = ToySpace().decisions
        for request in requests:
            values: Mapping[str, object] = request.architecture
            first = sum(values[name] == decision.options[0] for name, decision in decisions.items())
            yield Outcome(request.number, {"count": self._factor * first})


class Stops(Counts):
    """Stops the run, as Ctrl-C does, after some evaluations."""

    left = 100

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in super().evaluate(requests):
            if not Stops.left:
                raise KeyboardInterrupt
            Stops.left -= 1
            yield outcome


def search(out: Path, evidence: Any, **more: Any) -> Any:
    strategy = {"name": "surrogate", "evidence": [evidence], "pool": 10, "initial": 2}
    stage = {"name": "search", "strategy": strategy, "evaluator": Stops(), "budget": {"trials": 6}}
    problem = {"objectives": {"count": "maximize"}, "costs": []}
    return automl_nas.search(
        space=ToySpace(), problem=problem, stages=[stage], final=None, progress="none", out=out, seed=3, **more
    )


def recorded(run: Path) -> list[Any]:
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(line["architecture"], line["info"]) for line in lines if line["event"] == "finished"]


@pytest.mark.parametrize(
    ("evidence", "factor"),
    [(Counts(factor=2.0), 2.0), ({"name": Counts}, 1.0), ({"name": Counts, "factor": 3.0}, 3.0)],
    ids=["object", "class", "class with settings"],
)
def test_an_object_is_evidence(tmp_path: Path, evidence: Any, factor: float) -> None:
    search(tmp_path / "run", evidence)
    trials = recorded(tmp_path / "run")
    assert len(trials) == 6
    decisions = ToySpace().decisions
    for architecture, info in trials:
        first = sum(architecture[name] == decision.options[0] for name, decision in decisions.items())
        assert info["evidence"] == {"count": factor * first}


def test_a_run_goes_on_with_the_same_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search(tmp_path / "whole", Counts(factor=2.0))
    monkeypatch.setattr(Stops, "left", 3)
    with pytest.raises((KeyboardInterrupt, RunInterrupted)):
        search(tmp_path / "run", Counts(factor=2.0))
    assert len(recorded(tmp_path / "run")) == 3
    monkeypatch.setattr(Stops, "left", 100)
    search(tmp_path / "run", Counts(factor=2.0), resume=True)
    assert recorded(tmp_path / "run") == recorded(tmp_path / "whole")


def test_an_object_of_another_kind_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"stages\[0\]\.strategy\.evidence\[0\].*must be of type Evaluator"):
        search(tmp_path / "run", ToySpace())
    assert not (tmp_path / "run").exists()
