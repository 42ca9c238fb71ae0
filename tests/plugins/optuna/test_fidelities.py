"""`OptunaStrategy` inside a multi-fidelity strategy: it learns, answers its proposals, and resumes."""

from __future__ import annotations

import importlib.util
import json
from collections import defaultdict
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState
from plugins.optuna.spaces import Widths

from automl_nas.space.architecture import Architecture
from automl_nas.strategy import AskTellStrategy, Problem, Trial
from automl_nas.testing import ToySpace, toy_metric
from automl_nas_multifidelity.asha import Asha
from automl_nas_multifidelity.brackets import Hyperband, SuccessiveHalving
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import Sampler

SPACE, WIDTHS = ToySpace(blocks=5, options=4), Widths(count=4)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None
SAMPLERS = [
    pytest.param(Sampler("tpe", {"n_startup_trials": 4}), id="tpe"),
    pytest.param(Sampler("gp", {"n_startup_trials": 4}), id="gp"),
    pytest.param(Sampler("nsgaii", {"population_size": 4}), id="nsgaii"),
    pytest.param(Sampler("nsgaiii", {"population_size": 4}), id="nsgaiii"),
    *([pytest.param(Sampler("cmaes", {"popsize": 4}), id="cmaes")] if WITH_CMAES else []),
]


def space_of(sampler: Sampler) -> ToySpace | Widths:
    return WIDTHS if sampler.name == "cmaes" else SPACE


def value_of(architecture: Architecture, fidelity: float, sampler: Sampler) -> float:
    """Return a value that differs between the fidelities by more than between any two networks."""
    return toy_metric(architecture, space_of(sampler)) + 10 * fidelity


def make(outer: type[AskTellStrategy], sampler: Sampler) -> tuple[AskTellStrategy, OptunaStrategy]:
    space = space_of(sampler)
    inner = OptunaStrategy(space, PROBLEM, seed=0, sampler=sampler, attempts=3)
    keywords: dict[str, Any] = {"candidates": 9} if outer is SuccessiveHalving else {}
    strategy = outer(space, PROBLEM, seed=0, fidelities=[1.0, 3.0], strategy=inner, **keywords)  # type: ignore[call-arg]
    return strategy, inner


def trials_of(inner: OptunaStrategy) -> list[FrozenTrial]:
    return inner._study._study.get_trials(deepcopy=False)


def advance(strategy: AskTellStrategy, sampler: Sampler, first: int, count: int, sign: float = 1.0) -> list[Trial]:
    told = []
    for number in range(first, first + count):
        (proposal,) = strategy.ask(1)
        metrics = {"accuracy": sign * value_of(proposal.architecture, proposal.fidelity or 0, sampler)}
        trial = Trial(number, proposal.architecture, metrics, fidelity=proposal.fidelity, info=proposal.info)
        strategy.tell([trial])
        told.append(trial)
    return told


@pytest.mark.parametrize("outer", [Hyperband, Asha])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_learns_from_results_of_finite_fidelity(outer: type[AskTellStrategy], sampler: Sampler) -> None:
    proposed = []
    for sign in (1.0, -1.0):
        strategy, _ = make(outer, sampler)
        told = advance(strategy, sampler, 0, 30, sign)
        proposed.append([trial.architecture for trial in told if "promoted" not in trial.info])
    count = min(map(len, proposed))
    assert proposed[0][:4] == proposed[1][:4], "the first candidates do not depend on results"
    assert proposed[0][:count] != proposed[1][:count]


@pytest.mark.parametrize("outer", [Hyperband, Asha, SuccessiveHalving])
@pytest.mark.parametrize("sampler", [item for item in SAMPLERS if item.id != "gp"])
def test_the_study_has_the_results_of_one_fidelity(outer: type[AskTellStrategy], sampler: Sampler) -> None:
    """After each trial the states in the study are those that follow from the list of all trials."""
    strategy, inner = make(outer, sampler)
    told: list[Trial] = []
    used = []
    for number in range(40):
        told += advance(strategy, sampler, number, 1)
        values: dict[Architecture, dict[float, float]] = defaultdict(dict)
        for trial in told:
            values[trial.architecture][trial.fidelity or 0] = trial.metrics["accuracy"]
        code = {architecture: tuple(inner._parameters.encode(architecture)) for architecture in values}
        studied = [item for item in trials_of(inner) if item.state is not TrialState.FAIL]
        of_network = {
            architecture: [t for t in studied if tuple(inner._parameters.code(t.params)) == code[architecture]]
            for architecture in values
        }
        # A population receives a result once for each time that the network was suggested.
        counts = {at: sum(max(len(of_network[a]), 1) for a in values if at in values[a]) for at in (1.0, 3.0)}
        full = max((at for at, count in counts.items() if count >= sampler.enough), default=9.0)
        used.append(full)
        for architecture, items in of_network.items():
            assert not any(item.state is TrialState.RUNNING for item in items)
            results = values[architecture]
            for item in items:
                if full in results:
                    assert (item.state, item.value) == (TrialState.COMPLETE, results[full])
                    assert item.intermediate_values == {}
                else:
                    lower = max(at for at in results if at < full)
                    assert item.state is TrialState.PRUNED
                    assert item.intermediate_values == {int(lower): results[lower]}
    assert used == sorted(used, key=[9.0, 1.0, 3.0].index)
    assert 3.0 in used


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_with_fidelities_is_resumed_from_json(sampler: Sampler) -> None:
    whole, inner = make(Asha, sampler)
    expected = advance(whole, sampler, 0, 26)
    strategy, _ = make(Asha, sampler)
    told: list[Trial] = []
    for number in range(0, 26, 2):
        told += advance(strategy, sampler, number, 2)
        state = json.loads(json.dumps(strategy.search_state()))
        strategy, again = make(Asha, sampler)
        strategy.load_search_state(state)
    assert told == expected
    assert [(t.state, t.values, t.params) for t in trials_of(again)] == [
        (t.state, t.values, t.params) for t in trials_of(inner)
    ]


@pytest.mark.parametrize("name", ["nsgaii", "nsgaiii"])
def test_generations_begin_again_with_the_results_of_a_higher_fidelity(name: str) -> None:
    sampler = Sampler(name, {"population_size": 4})
    strategy, inner = make(Asha, sampler)
    advance(strategy, sampler, 0, 60)
    study = inner._study._study
    key: str = study.sampler._get_generation_key()  # type: ignore[attr-defined]
    complete = [item for item in trials_of(inner) if item.state is TrialState.COMPLETE]
    assert all((item.value or 0) > 20 for item in complete), "a result of the lower fidelity is among them"
    generations = [item.system_attrs[key] for item in complete]
    # All full results are in a generation, and no generation but the last lacks members.
    assert all(generations.count(number) >= 4 for number in range(max(generations)))
    assert max(generations) >= 1


def test_states_of_an_earlier_version_are_read() -> None:
    """They have no fidelities; the results are those of the study."""
    sampler = Sampler("nsgaii", {"population_size": 4})
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=sampler)
    for number in range(10):
        (proposal,) = strategy.ask(1)
        strategy.tell([Trial(number, proposal.architecture, {"accuracy": toy_metric(proposal.architecture, SPACE)})])
    state = json.loads(json.dumps(strategy.search_state()))
    assert state.pop("fidelities") == []
    state["known"] = [item[:4] for item in state["known"]]
    again = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=sampler)
    again.load_search_state(state)
    assert again.ask(3) == strategy.ask(3)
    assert again._complete == strategy._complete


@pytest.mark.parametrize(
    ("sampler", "enough"),
    [
        (Sampler("tpe"), 10),
        (Sampler("gp", {"n_startup_trials": 5}), 5),
        (Sampler("nsgaii"), 50),
        (Sampler("nsgaiii", {"population_size": 7}), 7),
        (Sampler("random"), 10),
    ],
)
def test_enough_results_are_those_that_the_sampler_waits_for(sampler: Sampler, enough: int) -> None:
    assert sampler.enough == enough
