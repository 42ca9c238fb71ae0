"""An evaluator with the weights that the strategy of its own stage saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from end_to_end.runs import small_space

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.run import smoke_run
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.trial import Proposal


class SavesAndProposes(Strategy):
    """Saves a supernet with fresh weights in its first step, and proposes three networks in its second."""

    space_type: ClassVar[type[SearchSpace]] = SupernetSpace  # type: ignore[type-abstract]

    def __init__(self, space: SupernetSpace, runtime: Runtime, artifacts: Artifacts, *, seed: int) -> None:
        with runtime.seeded(seed, "init"):
            self._supernet = space.build_supernet()
        self._artifacts, self._proposals = artifacts, list(enumerate_all(space.decisions))[::30]
        self._steps = 0

    def step(self, services: Services) -> None:
        self._steps += 1
        if self._steps == 1:
            self._artifacts.save(self._supernet.state_dict())
        else:
            services.evaluate([Proposal(architecture) for architecture in self._proposals])

    @property
    def done(self) -> bool:
        return self._steps == 2

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]


class Proposes(SavesAndProposes):
    """Proposes the same networks, with the weights of somebody else."""

    def __init__(self, space: SupernetSpace, runtime: Runtime, *, seed: int) -> None:
        self._proposals = list(enumerate_all(space.decisions))[::30]
        self._steps = 1


def settings(strategy: type[Strategy], weights: str) -> dict[str, Any]:
    evaluator = {"name": "supernet_weights", "weights": weights, "recalibration_images": 0}
    return {
        "space": small_space(),
        "task": "digits",
        "problem": {"costs": ["params"]},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": strategy, "evaluator": evaluator}],
        "final": None,
    }


def test_the_weights_of_the_own_stage(tmp_path: Path) -> None:
    """The metrics are those of another run that reads the same weights."""
    own = automl_nas.search(settings(SavesAndProposes, "search"), out=tmp_path / "own")
    other = automl_nas.search(settings(Proposes, f"{tmp_path / 'own'}:search"), out=tmp_path / "other")
    assert own.best is not None and other.best is not None
    assert own.best.metrics == other.best.metrics
    assert own.best.architecture == other.best.architecture


def test_a_smoke_run_gives_them_a_stand_in() -> None:
    assert list(smoke_run(settings(SavesAndProposes, "search")).stages) == ["search"]


def test_a_strategy_that_saves_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no earlier stage is called 'search'"):
        automl_nas.search(settings(Proposes, "search"), out=tmp_path / "run")
