"""Architectures as parameters of a trial and back, and evaluators in an objective."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import optuna
import pytest
from plugins.optuna.spaces import Mixed, Widths

from automl_nas.errors import EvaluationError, Pruned, SpaceError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing import ToyEvaluator, ToySpace, toy_metric
from automl_nas_optuna import architecture_of, evaluate, parameters_of, suggest


class Odd(Mixed):
    """Ordinals of every kind."""

    @property
    def decisions(self) -> dict[str, Decision]:
        return {
            "even": Ordinal((8, 16, 24)),
            "uneven": Ordinal((1, 2, 4)),
            "real": Ordinal((0.1, 0.2, 0.3)),
            "ratio": Ordinal((0.5, 1, 4)),
            "named": Ordinal(("small", "large")),
            "single": Ordinal((3,)),
            "none": Choice((None, "x", 2, 0.5)),
            "pair": Subset((1, 2, 3, 4), min=2, max=2),
        }


@pytest.mark.parametrize(
    "space", [ToySpace(), Mixed(), Widths(count=2, options=3), Odd()], ids=lambda s: type(s).__name__
)
def test_parameters_of_and_architecture_of_are_inverse(space: SearchSpace) -> None:
    asked = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    everything = list(enumerate_all(space.decisions))
    for architecture in everything[:: max(1, len(everything) // 40)]:
        parameters = parameters_of(architecture, space)
        assert architecture_of(parameters, space) == architecture
        assert suggest(optuna.trial.FixedTrial(parameters), space) == architecture  # type: ignore[arg-type]
        asked.enqueue_trial(parameters)
        trial = asked.ask()
        assert suggest(trial, space) == architecture
        assert trial.params == parameters


def test_exactly_the_architectures_of_the_space_are_suggested() -> None:
    space = Mixed(widths=2)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = {suggest(study.ask(), space) for _ in range(600)}
    assert all(space.validate(architecture) == architecture for architecture in suggested)
    assert suggested == set(enumerate_all(space.decisions))


def test_parameters_have_readable_values() -> None:
    architecture = Odd().validate(
        {
            "even": 16,
            "uneven": 4,
            "real": 0.3,
            "ratio": 0.5,
            "named": "small",
            "single": 3,
            "none": None,
            "pair": (1, 2),
        }
    )
    assert parameters_of(architecture, Odd()) == {
        "even": 16,
        "uneven": 4,
        "real": 0.3,
        "ratio": 0.5,
        "named": "small",
        "single": 3,
        "none": None,
        "pair[1]": True,
        "pair[2]": True,  # the subset has two options, so the others have no parameter
    }


def test_incomplete_parameters_give_no_architecture() -> None:
    space = Mixed()
    whole = parameters_of(space.sample(stream(0, "test")), space)
    assert architecture_of(whole, space) is not None
    for name in whole:
        assert architecture_of({other: value for other, value in whole.items() if other != name}, space) is None


def test_options_that_python_cannot_tell_apart_are_refused() -> None:
    class Ones(Mixed):
        @property
        def decisions(self) -> dict[str, Decision]:
            return {"kind": Choice((1, True))}

    with pytest.raises(SpaceError, match="'kind': options that are equal to Python"):
        suggest(optuna.create_study().ask(), Ones())


class Curve(Evaluator):
    """Reports its metric divided by 4, 3, 2 and 1."""

    def __init__(self, space: SearchSpace, pruned: bool) -> None:
        self._space, self._pruned = space, pruned

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            value = toy_metric(request.architecture, self._space)
            for step in range(4):
                try:
                    request.report(step, value / (4 - step))
                except Pruned:
                    if not self._pruned:
                        raise
                    yield Outcome(request.number, {"accuracy": value / (4 - step)}, State.PRUNED)
                    return
            yield Outcome(request.number, {"accuracy": value})

    @classmethod
    def metric_names(cls, task: Any) -> frozenset[str]:
        return frozenset({"accuracy"})


@pytest.mark.parametrize(
    "pruned", [True, False], ids=["the evaluator yields a pruned outcome", "the evaluator does not catch Pruned"]
)
def test_the_pruner_of_the_study_ends_an_evaluation(pruned: bool) -> None:
    space = ToySpace()
    threshold = optuna.pruners.ThresholdPruner(lower=0.05, n_warmup_steps=1)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0), pruner=threshold)
    evaluator = Curve(space, pruned)
    study.optimize(lambda trial: evaluate(trial, suggest(trial, space), evaluator)["accuracy"], n_trials=30)
    for trial in study.trials:
        architecture = architecture_of(trial.params, space)
        assert architecture is not None
        value = toy_metric(architecture, space)
        # The value reported at step 1 is a third of the metric.
        if value / 3 >= 0.05:
            assert trial.value == value
            assert trial.intermediate_values == {step: value / (4 - step) for step in range(4)}
        else:
            assert trial.state is optuna.trial.TrialState.PRUNED
            assert trial.last_step == 1
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}


def test_a_failure_is_an_error_with_its_reason() -> None:
    space = ToySpace()
    study = optuna.create_study(directions=["maximize", "minimize"])
    trial = study.ask()

    class Broken(Evaluator):
        def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
            for request in requests:
                request.report(1, 0.5)  # ignored in a study with several objectives
                yield Outcome(request.number, state=State.FAILED, error="out of memory")

    with pytest.raises(EvaluationError, match="trial 0: out of memory"):
        evaluate(trial, space.sample(stream(0, "test")), Broken())


def test_the_seed_of_an_evaluation_depends_on_seed_and_trial() -> None:
    space, study = ToySpace(), optuna.create_study()
    evaluator = ToyEvaluator(space, noise=1.0)
    architecture = space.sample(stream(0, "test"))
    trials = [study.ask(), study.ask()]
    values = [evaluate(trial, architecture, evaluator, seed=1)["accuracy"] for trial in trials]
    assert values[0] != values[1]
    assert evaluate(trials[0], architecture, evaluator, seed=1)["accuracy"] == values[0]
    assert evaluate(trials[0], architecture, evaluator, seed=2)["accuracy"] != values[0]
