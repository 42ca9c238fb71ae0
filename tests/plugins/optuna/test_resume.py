"""Resuming a search from its state: exactly, from plain data, and without unpickling."""

from __future__ import annotations

import importlib.util
import json
import pickle
from typing import Any

import pytest
from plugins.optuna import third_party_samplers
from plugins.optuna.spaces import Widths, search

from automl_nas.errors import ReplayError
from automl_nas.space.space import SearchSpace
from automl_nas.strategy import Problem, Proposal
from automl_nas.testing import ToySpace
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import SAMPLERS, Sampler

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None
THIRD_PARTY = "plugins.optuna.third_party_samplers:"


def resumed(sampler: Sampler, space: SearchSpace, problem: Problem) -> tuple[list[Proposal], list[Proposal]]:
    """Return the proposals of a search, and of one whose state is written as JSON and read after every trial."""
    whole = search(OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3), 12, space)
    proposals: list[Proposal] = []
    strategy = OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3)
    for number in range(12):
        proposals += search(strategy, 1, space, number)
        state = json.loads(json.dumps(strategy.search_state()))
        strategy = OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3)
        strategy.load_search_state(state)
    return whole, proposals


@pytest.mark.parametrize("name", [*SAMPLERS, f"{THIRD_PARTY}Cyclic"])
def test_a_search_is_resumed_from_json(name: str) -> None:
    if name == "cmaes" and not WITH_CMAES:
        pytest.skip("CMA-ES needs the library cmaes")
    settings: dict[str, dict[str, Any]] = {
        "gp": {"n_startup_trials": 11},
        "tpe": {"n_startup_trials": 4},
        "nsgaii": {"population_size": 3},
    }
    decision = next(iter(SPACE.decisions))
    settings["partial_fixed"] = {"fixed_params": {decision: SPACE.decisions[decision].options[0]}}
    space = Widths() if name == "cmaes" else SPACE
    whole, again = resumed(Sampler(name, settings.get(name, {})), space, PROBLEM)
    assert again == whole


@pytest.mark.skipif(not WITH_CMAES, reason="CMA-ES needs the library cmaes")
def test_the_pickle_of_cmaes_is_never_written() -> None:
    strategy = OptunaStrategy(Widths(), PROBLEM, seed=0, sampler="cmaes")
    search(strategy, 20, Widths())
    state = strategy.search_state()
    assert state["attributes"] == {}
    assert "optimizer" not in json.dumps(state)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("name", ["tpe", "nsgaii", *(["cmaes"] if WITH_CMAES else [])])
def test_nothing_in_a_state_is_unpickled(name: str) -> None:
    space = Widths()
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler(name))
    search(strategy, 12, space)
    state = strategy.search_state()
    bomb = pickle.dumps(Bomb()).hex()
    state["attributes"] = {
        "study": {"cma:optimizer:0": bomb},
        "trials": {str(number): {"cma:optimizer:0": bomb, "cma:generation": 0} for number in range(12)},
    }
    other = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler(name))
    other.load_search_state(state)
    assert search(other, 3, space, 12)
    assert "optimizer" not in json.dumps(other.search_state())


def test_a_sampler_that_does_not_repeat_itself_cannot_be_resumed() -> None:
    third_party_samplers.Absorbed.calls = 0
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler(f"{THIRD_PARTY}Absorbed"))
    search(strategy, 3, SPACE)
    third_party_samplers.Absorbed.calls = 1
    other = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler(f"{THIRD_PARTY}Absorbed"))
    with pytest.raises(ReplayError, match=r"Absorbed' is resumed by asking .* proposal 0 is now .* new search"):
        other.load_search_state(strategy.search_state())
