"""Runs with one of Optuna's samplers, interrupted and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from automl_nas.errors import RunInterrupted
from automl_nas.evaluation.evaluator import Outcome, Request
from automl_nas.run.session import Session
from automl_nas.testing import ToyEvaluator, ToySpace

SPACE = ToySpace(blocks=4, options=3)


class Interrupted(ToyEvaluator):
    """Interrupts the run during the twelfth trial."""

    count = 0

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in super().evaluate(requests):
            Interrupted.count += 1
            if Interrupted.count == 12:
                raise KeyboardInterrupt
            yield outcome


def configuration(sampler: dict[str, Any], evaluator: ToyEvaluator) -> dict[str, Any]:
    return {
        "space": SPACE,
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {
                "name": "search",
                "strategy": {"name": "optuna", "sampler": sampler},
                "evaluator": evaluator,
                "budget": {"trials": 25},
                "batch": 2,
                "ahead": 4,
            }
        ],
    }


def proposed(run: Path) -> list[Any]:
    """Return the architectures in the order of their numbers; after an interruption, the ledger's order may differ."""
    lines = map(json.loads, (run / "trials.jsonl").read_text(encoding="utf-8").splitlines())
    architectures = {line["number"]: line["architecture"] for line in lines if "architecture" in line}
    return [architectures[number] for number in sorted(architectures)]


@pytest.mark.process
@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "tpe", "settings": {"n_startup_trials": 5}},
        {"name": "nsgaii", "settings": {"population_size": 5}},
        {"name": "plugins.optuna.third_party_samplers:Cyclic", "settings": {"stride": 2}},
    ],
    ids=lambda sampler: sampler["name"].rpartition(":")[2],
)
def test_a_resumed_run_proposes_what_an_undisturbed_one_does(sampler: dict[str, Any], tmp_path: Path) -> None:
    Session.start(configuration(sampler, ToyEvaluator(SPACE)), tmp_path / "whole").run()
    Interrupted.count = 0
    with pytest.raises(RunInterrupted):
        Session.start(configuration(sampler, Interrupted(SPACE)), tmp_path / "resumed").run()
    Session.resume(tmp_path / "resumed", raw=configuration(sampler, Interrupted(SPACE))).run()
    assert len(proposed(tmp_path / "whole")) == 25
    assert proposed(tmp_path / "resumed") == proposed(tmp_path / "whole")
