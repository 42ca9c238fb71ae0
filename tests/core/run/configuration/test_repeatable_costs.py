"""A cost that changes from call to call, or from process to process, is found before the run."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import automl_nas
from automl_nas.errors import AutoMLNASError, ConfigurationError, RunDirectoryError
from automl_nas.evaluation import CostModel
from automl_nas.run.configuration.repeatable_costs import costs_difference
from automl_nas.space import Architecture
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace

COUNTER = itertools.count(1)
OFFSET = 0.0


class Own(CostModel):
    """The number of options, plus what a subclass adds."""

    metric: ClassVar[str] = "own"
    unit: ClassVar[str] = "units"

    def extra(self, architecture: Architecture) -> float:
        """Return what is added."""
        return 0.0

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """See the base class."""
        return {"all": float(len(architecture)) + self.extra(architecture)}


class Random(Own):
    """Adds a random number."""

    def extra(self, architecture: Architecture) -> float:
        """See the base class."""
        return random.random()


class Counting(Own):
    """Adds the number of calls."""

    def extra(self, architecture: Architecture) -> float:
        """See the base class."""
        return float(next(COUNTER))


class Remembering(Own):
    """Returns a higher cost as soon as it was asked for another architecture; asked twice it returns the same."""

    def __init__(self) -> None:
        self._seen: set[Architecture] = set()

    def extra(self, architecture: Architecture) -> float:
        """See the base class."""
        self._seen.add(architecture)
        return float(len(self._seen))


class Measuring(Random):
    """Declares that it is measured."""

    noisy: ClassVar[bool] = True


class OfTheProcess(Own):
    """Depends on the process, and is the same in all calls of one process."""

    def extra(self, architecture: Architecture) -> float:
        """See the base class."""
        return float(os.getpid())


class Edited(Own):
    """Its code changes between two processes, which is a global variable here."""

    def extra(self, architecture: Architecture) -> float:
        """See the base class."""
        return OFFSET


def search(out: Path, cost: Any, **settings: Any) -> automl_nas.Result:
    stage = {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 3}}
    problem = {"objectives": {"accuracy": "maximize"}, "costs": {"own": {"name": cost}, "toy": {"name": ToyCost}}}
    return automl_nas.search(space=ToySpace, problem=problem, stages=[stage], final=None, out=out, **settings)


@pytest.mark.parametrize("cost", [Random, Counting, Remembering])
def test_it_is_found_before_the_run(tmp_path: Path, cost: type[CostModel]) -> None:
    message = rf"^problem\.costs\.own: the cost model 'own' \({cost.__name__}\) returns \S+ and then \S+ for the arch"
    with pytest.raises(ConfigurationError, match=message):
        search(tmp_path / "run", cost)
    assert not (tmp_path / "run").exists()


def test_that_of_a_stage(tmp_path: Path) -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "problem": {"costs": {"own": Random}}}
    with pytest.raises(ConfigurationError, match=r"^stages\[0\]\.problem\.costs\.own: .* noisy = True"):
        automl_nas.search(
            space=ToySpace,
            problem={"objectives": {"accuracy": "maximize"}},
            stages=[stage],
            final=None,
            out=tmp_path / "run",
        )


def test_a_measured_cost_is_exempt(tmp_path: Path) -> None:
    search(tmp_path / "run", Measuring)
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.process
def test_a_cost_of_the_process_is_found_by_the_rehearsal_of_workers(tmp_path: Path) -> None:
    message = r"before the run begins, fails: problem\.costs: the cost model .* another one: the cost 'own' .* was"
    with pytest.raises(AutoMLNASError, match=message):
        search(tmp_path / "run", OfTheProcess, executor={"name": "processes", "workers": 2})
    assert not (tmp_path / "run").exists()


def test_a_changed_cost_model_does_not_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    search(out, Edited)
    (out / "result.json").unlink()
    monkeypatch.setattr(f"{__name__}.OFFSET", 1.0)
    with pytest.raises(RunDirectoryError, match=r"begun with another cost model: the cost 'own' .* was \S+ and is"):
        search(out, Edited, resume=True)
    monkeypatch.setattr(f"{__name__}.OFFSET", 0.0)
    search(out, Edited, resume=True)
    assert (out / "result.json").exists()


def test_costs_that_only_one_process_has_are_not_compared() -> None:
    assert costs_difference({"own/final/{}": 1.0}, {"other/final/{}": 2.0}) == ""
    assert costs_difference({}, {"own/final/{}": 2.0}) == ""
    assert "'own'" in costs_difference({"own/final/{}": None}, {"own/final/{}": 2.0})
