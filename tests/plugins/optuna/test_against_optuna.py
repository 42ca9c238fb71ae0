"""The strategy makes the same proposals as a loop over Optuna's own ask and tell with the same seeds."""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna
import pytest

from automl_nas.evaluation.evaluator import State
from automl_nas.strategy import Problem, Trial, parse_constraint
from automl_nas.streams import stream_seed
from automl_nas.testing import ToyCost, ToySpace, toy_metric
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import SAMPLERS, Sampler, reseed

SPACE = ToySpace(blocks=4, options=4)
CONFIGURED = {
    "random": Sampler("random"),
    "tpe": Sampler("tpe", {"n_startup_trials": 5}),
    "independent tpe": Sampler("tpe", {"n_startup_trials": 5, "multivariate": False}),
    "nsgaii": Sampler("nsgaii", {"population_size": 5}),
    "nsgaiii": Sampler("nsgaiii", {"population_size": 5}),
    "qmc": Sampler("qmc"),
    "brute_force": Sampler("brute_force"),
}
LENGTH = 20
LIMIT = 7.0  # the costs are 0 to 12


def seeds(seed: int, step: int) -> tuple[int, int]:
    """Return the sampler's seed for one proposal, and that of its sequence: the upper 32 bits of named streams."""
    return stream_seed(seed, "optuna/sampler", step) >> 31, stream_seed(seed, "optuna/sequence") >> 31


def second(code: list[int]) -> float:
    """Another metric: the distance of the code from all ones."""
    return float(sum(abs(number - 1) for number in code))


def outcome_of(number: int, code: list[int]) -> tuple[State, dict[str, float]]:
    """Return state and metrics of a trial; every state occurs."""
    architecture = SPACE.validate(dict(zip(SPACE.decisions, code, strict=True)))
    metrics = {"accuracy": toy_metric(architecture, SPACE), "second": second(code)}
    if number % 7 == 3:
        return State.FAILED, {}
    if number % 5 == 4:
        return State.PRUNED, metrics
    return State.COMPLETE, metrics


def optuna_loop(sampler: Sampler, problem: Problem, seed: int) -> list[list[int]]:
    """Return the proposals of a loop over ask and tell, with a new sampler for each proposal."""
    study = optuna.create_study(directions=list(problem.objectives.values()), sampler=sampler.make(0))
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution((0, 1, 2, 3)) for name in SPACE.decisions
    }
    proposals: list[list[int]] = []
    step, passed_back = 0, False
    while len(proposals) < LENGTH:
        study.sampler = sampler.make(*seeds(seed, step))
        step += 1
        trial = study.ask(distributions)
        code = list(trial.params.values())
        architecture = SPACE.validate(dict(zip(SPACE.decisions, code, strict=True)))
        if not problem.feasible(architecture):
            if passed_back:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            passed_back = True
            for name, value in problem.violations(architecture).items():
                trial.set_constraint(name, value)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        passed_back = False
        state, metrics = outcome_of(len(proposals), code)
        proposals.append(code)
        if state is State.FAILED:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        for name, value in problem.violations(architecture, metrics if state is State.COMPLETE else None).items():
            trial.set_constraint(name, value)
        if state is State.PRUNED:
            if len(problem.objectives) == 1:
                trial.report(metrics[next(iter(problem.objectives))], 3)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            costs = problem.costs(architecture)
            study.tell(trial, [{**costs, **metrics}[name] for name in problem.objectives])
    return proposals


def through_the_strategy(sampler: Sampler, problem: Problem, seed: int) -> list[list[int]]:
    strategy = OptunaStrategy(SPACE, problem, seed=seed, sampler=sampler, duplicates=True, attempts=500)
    proposals: list[list[int]] = []
    for number in range(LENGTH):
        (proposal,) = strategy.ask(1)
        code = [int(str(value)) for value in proposal.architecture.values()]
        proposals.append(code)
        state, metrics = outcome_of(number, code)
        costs = problem.costs(proposal.architecture)
        strategy.tell([Trial(number, proposal.architecture, metrics, costs, state=state, info={"epochs": 3})])
    return proposals


PROBLEMS = {
    "one objective": Problem({"accuracy": "maximize"}),
    "minimised": Problem({"second": "minimize"}),
    "two objectives": Problem({"accuracy": "maximize", "second": "minimize"}),
    "an objective that is a cost": Problem(
        {"accuracy": "maximize", "toy_cost": "minimize"}, costs={"toy_cost": ToyCost(SPACE)}
    ),
    "a limit on a cost": Problem(
        {"accuracy": "maximize"}, [parse_constraint("toy_cost", f"<= {LIMIT}")], {"toy_cost": ToyCost(SPACE)}
    ),
    "a limit on a metric": Problem({"accuracy": "maximize"}, [parse_constraint("second", "<= 3")]),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", CONFIGURED)
def test_proposals_are_those_of_optunas_own_loop(name: str, problem: str) -> None:
    assert through_the_strategy(CONFIGURED[name], PROBLEMS[problem], 3) == optuna_loop(
        CONFIGURED[name], PROBLEMS[problem], 3
    )


# A grid has the same seed in every object: the order of its points is that of the seed.
@pytest.mark.parametrize("name", [name for name, traits in SAMPLERS.items() if not traits.fresh and not traits.grid])
def test_a_reseeded_sampler_equals_a_new_one(name: str) -> None:
    reseeded, new = Sampler(name).make(1), Sampler(name).make(7)
    assert reseed(reseeded, 7)
    first, second = generators(reseeded), generators(new)
    assert first.keys() == second.keys()
    assert first
    for path, state in first.items():
        assert all(map(equal, state, second[path])), path


def equal(first: Any, second: Any) -> bool:
    return bool((first == second).all()) if hasattr(first, "all") else first == second


def generators(sampler: object, path: str = "") -> dict[str, Any]:
    """Every NumPy generator that can be reached from a sampler, by its path."""
    import numpy as np

    states: dict[str, Any] = {}
    for name, value in vars(sampler).items():
        attribute = f"{path}.{name}"
        if isinstance(value, np.random.RandomState):
            states[attribute] = value.get_state()
        elif hasattr(value, "__dict__") and type(value).__module__.startswith("optuna.samplers"):
            states |= generators(value, attribute)
    return states


def test_gp_is_fresh_so_every_fit_starts_from_the_same_parameters() -> None:
    sampler = Sampler("gp", {"n_startup_trials": 3})
    problem = PROBLEMS["one objective"]
    study = optuna.create_study(direction="maximize", sampler=sampler.make(0))
    strategy = OptunaStrategy(SPACE, problem, seed=0, sampler=sampler, duplicates=True)
    distributions: dict[str, Any] = {
        name: optuna.distributions.CategoricalDistribution((0, 1, 2, 3)) for name in SPACE.decisions
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(4):
            study.sampler = sampler.make(*seeds(0, step))
            trial = study.ask(distributions)
            (proposal,) = strategy.ask(1)
            assert list(trial.params.values()) == list(proposal.architecture.values())
            value = toy_metric(proposal.architecture, SPACE)
            study.tell(trial, value)
            strategy.tell([Trial(step, proposal.architecture, {"accuracy": value})])


def test_a_result_that_is_not_a_number_is_a_failure_to_optuna() -> None:
    events: dict[str, list[object]] = {}
    for kind, metrics in {"nan": {"accuracy": math.nan}, "missing": {}, "infinite": {"accuracy": -math.inf}}.items():
        strategy = OptunaStrategy(SPACE, PROBLEMS["one objective"], seed=0)
        (proposal,) = strategy.ask(1)
        strategy.tell([Trial(0, proposal.architecture, metrics)])
        events[kind] = strategy.search_state()["events"][-1]
    assert all(event == ["tell", 0, "fail", [], [], []] for event in events.values())
