"""A strategy as a sampler: Optuna's own contract for samplers, and the behaviour of a study with a strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, MultiObjectiveSamplerTestCase, RelativeSamplerTestCase
from plugins.optuna.spaces import Mixed

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial, parse_constraint
from automl_nas.testing import ToyCost, ToySpace, toy_metric
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution
from automl_nas_optuna.objective.strategy_sampler import StrategySampler
from automl_nas_optuna.objective.suggesting import architecture_of, parameters_of, suggest

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})


def of_another_space() -> BaseSampler:
    """Return a sampler whose space has none of the contract's parameters, so the other sampler suggests them all."""
    return StrategySampler(Mixed(), PROBLEM, "random", sampler=TPESampler(n_startup_trials=0, seed=0))


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return of_another_space


class TestContractForSeveralObjectives(MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: StrategySampler(Mixed(), PROBLEM, "random", sampler=RandomSampler(seed=0))


class Recorder(AskTellStrategy):
    """Wraps a strategy and records its proposals and the trials it receives."""

    def __init__(self, inner: AskTellStrategy) -> None:
        self.inner = inner
        self.asked: list[Proposal] = []
        self.received: list[Trial] = []

    def ask(self, n: int) -> list[Proposal]:
        proposals = self.inner.ask(n)
        self.asked += proposals
        return proposals

    def tell(self, trials: Any) -> None:
        self.received += trials
        self.inner.tell(trials)

    def search_state(self) -> dict[str, Any]:
        return self.inner.search_state()

    def load_search_state(self, state: Any) -> None:
        self.inner.load_search_state(state)


def aging(space: ToySpace = SPACE, problem: Problem = PROBLEM) -> Recorder:
    return Recorder(RegularizedEvolution(space, problem, seed=0, population=6, sample_size=3))


def objective(trial: optuna.Trial) -> float:
    architecture = suggest(trial, SPACE)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    return toy_metric(architecture, SPACE) * (1 - rate)


def test_a_study_proposes_what_the_strategy_does_alone() -> None:
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, aging(), seed=0))
    study.optimize(objective, n_trials=25)
    alone = aging()
    for trial in study.trials:
        (proposal,) = alone.ask(1)
        assert architecture_of(trial.params, SPACE) == proposal.architecture
        assert trial.value is not None
        alone.tell([Trial(trial.number, proposal.architecture, {"accuracy": trial.value})])


def test_other_parameters_are_those_of_the_other_sampler() -> None:
    # The random sampler draws each parameter independently, in the order of the objective.
    study = optuna.create_study(
        direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, aging(), sampler=RandomSampler(seed=3))
    )
    study.optimize(objective, n_trials=10)
    other = optuna.create_study(sampler=RandomSampler(seed=3))
    other.optimize(lambda trial: trial.suggest_float("rate", 1e-4, 1e-1, log=True), n_trials=10)
    assert [trial.params["rate"] for trial in study.trials] == [trial.params["rate"] for trial in other.trials]


def test_tpe_learns_the_other_parameters() -> None:
    def noisy(trial: optuna.Trial) -> float:
        architecture = suggest(trial, SPACE)
        return toy_metric(architecture, SPACE) - 10 * (trial.suggest_float("x", -5, 5) - 2) ** 2

    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, "random", seed=0))
    study.optimize(noisy, n_trials=60)
    # Uniform draws are 2.7 away from 2 on average.
    assert sum(abs(trial.params["x"] - 2) for trial in study.trials[40:]) / 20 < 1


def test_all_outcomes_reach_the_strategy_in_order() -> None:
    strategy = aging()
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, strategy))

    def uneven(trial: optuna.Trial) -> float:
        value = objective(trial)
        if trial.number == 1:
            raise ArithmeticError
        if trial.number == 2:
            trial.report(0.25, 4)
            raise optuna.TrialPruned
        return float("nan") if trial.number == 3 else value

    study.optimize(uneven, n_trials=6, catch=ArithmeticError)
    assert [trial.number for trial in strategy.received] == [0, 1, 2, 3, 4]
    assert [trial.state for trial in strategy.received] == [
        State.COMPLETE,
        State.FAILED,
        State.PRUNED,
        State.FAILED,
        State.COMPLETE,
    ]
    assert strategy.received[2].metrics == {"accuracy": 0.25}
    assert strategy.received[2].info == {"step": 4}
    assert [trial.architecture for trial in strategy.received] == [item.architecture for item in strategy.asked[:5]]


def test_a_study_that_has_trials_is_joined() -> None:
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    study.optimize(objective, n_trials=8)
    strategy = Recorder(RandomSearch(SPACE, PROBLEM, seed=0))
    study.sampler = StrategySampler(SPACE, PROBLEM, strategy)
    study.optimize(objective, n_trials=50)
    assert [trial.number for trial in strategy.received[:8]] == list(range(8))
    before = {architecture_of(trial.params, SPACE) for trial in study.trials[:8]}
    after = [architecture_of(trial.params, SPACE) for trial in study.trials[8:]]
    assert len(set(after)) == 50
    assert not before & set(after)


def test_an_enqueued_architecture_is_evaluated_and_told() -> None:
    strategy = aging()
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, strategy))
    enqueued = Architecture({f"d{position}": 2 for position in range(4)})
    study.enqueue_trial(parameters_of(enqueued, SPACE))
    study.optimize(objective, n_trials=3)
    assert architecture_of(study.trials[0].params, SPACE) == enqueued
    assert strategy.received[0].architecture == enqueued
    # The strategy was not asked for the enqueued trial.
    assert len(strategy.asked) == 2


def test_a_trial_that_ends_before_its_architecture_is_complete() -> None:
    strategy = aging()
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, strategy))

    def broken(trial: optuna.Trial) -> float:
        if trial.number == 0:
            trial.suggest_categorical("d0", (0, 1, 2))
            raise ArithmeticError
        return objective(trial)

    study.optimize(broken, n_trials=3, catch=ArithmeticError)
    assert strategy.received[0].state is State.FAILED
    assert strategy.received[0].architecture == strategy.asked[0].architecture


def test_threads_share_one_strategy() -> None:
    strategy = aging()
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, strategy))
    study.optimize(objective, n_trials=30, n_jobs=3)
    assert len(study.trials) == 30
    assert all(trial.state is optuna.trial.TrialState.COMPLETE for trial in study.trials)
    asked = [item.architecture for item in strategy.asked]
    assert len(set(asked)) == len(asked)


def test_when_nothing_new_is_left_the_study_goes_on() -> None:
    space = ToySpace(blocks=1, options=2)
    study = optuna.create_study(
        direction="maximize", sampler=StrategySampler(space, PROBLEM, RandomSearch(space, PROBLEM, seed=0))
    )
    study.optimize(lambda trial: toy_metric(suggest(trial, space), space), n_trials=5)
    assert {trial.params["d0"] for trial in study.trials[:2]} == {0, 1}
    assert len(study.trials) == 5


def test_constraints_on_costs_are_met_and_become_constraints_of_the_trial() -> None:
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 4")], {"toy_cost": ToyCost(SPACE)})
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, problem, "random"))
    study.optimize(lambda trial: toy_metric(suggest(trial, SPACE, problem), SPACE), n_trials=20)
    for trial in study.trials:
        cost = sum(trial.params.values())
        assert trial.constraints == {"toy_cost <= 4": pytest.approx((cost - 4) / 4)}
        assert cost <= 4


def test_several_objectives() -> None:
    problem = Problem({"accuracy": "maximize", "size": "minimize"})
    strategy = Recorder(RegularizedEvolution(SPACE, problem, seed=0, population=6, sample_size=3))
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=StrategySampler(SPACE, problem, strategy, sampler=RandomSampler())
    )

    def both(trial: optuna.Trial) -> tuple[float, float]:
        architecture = suggest(trial, SPACE)
        return toy_metric(architecture, SPACE), float(sum(int(str(value)) for value in architecture.values()))

    study.optimize(both, n_trials=15)
    assert [set(trial.metrics) for trial in strategy.received] == [{"accuracy", "size"}] * 14


def test_directions_must_match() -> None:
    study = optuna.create_study(direction="minimize", sampler=StrategySampler(SPACE, PROBLEM, "random"))
    with pytest.raises(ConfigurationError, match=r"directions \(minimize\) are not .* \(accuracy: maximize\)"):
        study.optimize(objective, n_trials=1)


def test_a_strategy_by_its_configuration() -> None:
    sampler = StrategySampler(SPACE, PROBLEM, {"name": "evolution", "population": 4, "top_k": 2}, seed=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=12)
    assert len({architecture_of(trial.params, SPACE) for trial in study.trials}) == 12
    with pytest.raises(ConfigurationError, match=r"strategy\.populatoin: .* did you mean 'population'"):
        StrategySampler(SPACE, PROBLEM, {"name": "evolution", "populatoin": 4})
    with pytest.raises(ConfigurationError, match="did you mean 'evolution'"):
        StrategySampler(SPACE, PROBLEM, "evoluton")


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "hyperband", "fidelities": [1, 3]},
        {"name": "asha", "fidelities": [1, 3]},
        {"name": "successive_halving", "fidelities": [1, 3], "candidates": 4},
        {"name": "race", "part": 4, "strategy": "random"},
    ],
)
def test_strategies_with_fidelities_are_refused(strategy: dict[str, Any]) -> None:
    study = optuna.create_study(direction="maximize", sampler=StrategySampler(SPACE, PROBLEM, strategy))
    with pytest.raises(ConfigurationError, match=r"proposes fidelities .* use it in a stage of a run"):
        study.optimize(objective, n_trials=1)
