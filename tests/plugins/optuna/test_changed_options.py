"""Studies that are continued with other options than they were begun with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial
from plugins.optuna.test_strategy_sampler import Recorder

from automl_nas.errors import SpaceError
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.strategy import Problem
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_optuna import StrategySampler, adapted_trials, architecture_of, open_storage, suggest
from automl_nas_optuna.objective.recorded_options import ARCHITECTURE, OPTIONS
from automl_nas_optuna.objective.suggesting import distributions_of

PROBLEM = Problem({"accuracy": "maximize"})


def widths(*values: float) -> DecisionSpace:
    return DecisionSpace({"width": Ordinal(values)})


def width_of(source: Any, space: SearchSpace) -> object:
    architecture = architecture_of(source, space)
    return None if architecture is None else architecture["width"]


def study_in(storage: Any, space: SearchSpace, trials: int) -> tuple[optuna.Study, Recorder]:
    strategy = Recorder(RandomSearch(space, PROBLEM, seed=0))
    study = optuna.create_study(
        storage=storage,
        study_name="s",
        direction="maximize",
        load_if_exists=True,
        sampler=StrategySampler(space, PROBLEM, strategy, seed=0),
    )
    study.optimize(lambda trial: float(suggest(trial, space)["width"]), n_trials=trials)  # type: ignore[arg-type]
    return study, strategy


@pytest.fixture(params=["memory", "sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    addresses = {"sqlite": f"sqlite:///{tmp_path}/s.db", "journal": str(tmp_path / "s.journal")}
    return optuna.storages.InMemoryStorage() if request.param == "memory" else open_storage(addresses[request.param])


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ((8, 16, 24), IntDistribution(8, 24, step=8)),
        ((0.5, 1.0, 1.5), FloatDistribution(0.5, 1.5, step=0.5)),
        ((0.1, 0.2, 0.3), FloatDistribution(0.1, 0.3, step=0.1)),
        ((1, 1.5, 2), FloatDistribution(1.0, 2.0, step=0.5)),
        ((0.5, 1, 2), CategoricalDistribution((0.5, 1, 2))),
        ((16, 24, 40), CategoricalDistribution((16, 24, 40))),
        ((0.25,), CategoricalDistribution((0.25,))),
    ],
)
def test_ordinals_are_values(values: tuple[float, ...], distribution: object) -> None:
    space = widths(*values)
    assert distributions_of(space) == {"width": distribution}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = [suggest(study.ask(), space)["width"] for _ in range(60)]
    assert {(type(value), value) for value in suggested} == {(type(value), value) for value in values}
    for trial, value in zip(study.trials, suggested, strict=True):
        assert trial.params["width"] == pytest.approx(value)
        assert width_of(trial.params, space) == width_of(trial, space) == value


def test_trials_with_removed_options_are_skipped_and_counted(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    study_in(storage, widths(2, 4, 6, 8, 10, 12), 6)  # one trial of each option
    with caplog.at_level(logging.WARNING, "automl_nas"):
        study, strategy = study_in(storage, widths(4, 6, 8), 3)
    assert len(study.trials) == 9
    received = [trial.architecture["width"] for trial in strategy.received[:3]]
    assert sorted(received) == [4, 6, 8]  # type: ignore[type-var]
    assert [trial.metrics["accuracy"] for trial in strategy.received[:3]] == received
    warnings = [record.getMessage() for record in caplog.records if record.name == "automl_nas"]
    assert len(warnings) == 1
    assert "3 of 6 trials are skipped" in warnings[0]


def test_a_fraction_is_never_read_as_another_value(storage: Any, caplog: pytest.LogCaptureFixture) -> None:
    study_in(storage, widths(0.5, 1.0, 1.5), 3)
    with caplog.at_level(logging.WARNING, "automl_nas"):
        _, strategy = study_in(storage, widths(1.5, 2.0, 2.5), 2)
    assert [trial.architecture["width"] for trial in strategy.received[:1]] == [1.5]
    assert strategy.received[0].metrics == {"accuracy": 1.5}
    assert "2 of 3 trials are skipped" in caplog.text


def test_options_that_optuna_cannot_change_are_refused_with_the_way_out(
    storage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old, _ = study_in(storage, widths(0.5, 1, 2), 3)
    assert old.user_attrs[OPTIONS] == {"width": [0.5, 1, 2]}
    space = widths(2, 4, 8)
    with pytest.raises(SpaceError, match=r"parameter 'width' is Cat.*\(0.5, 1, 2\).*adapted_trials"):
        study_in(storage, space, 1)
    fresh = optuna.create_study(direction="maximize")
    with caplog.at_level(logging.WARNING, "automl_nas"):
        fresh.add_trials(adapted_trials(old.trials, space))
    assert "2 of " in caplog.text
    assert [(trial.params, trial.value) for trial in fresh.trials] == [({"width": 2}, 2.0)]
    assert width_of(fresh.trials[0], space) == 2
    suggest(fresh.ask(), space)


def test_all_kinds_of_decisions_are_adapted() -> None:
    old_space = DecisionSpace(
        {"op": Choice(("a", "b")), "edges": Subset((1, 2, 3), min=1), "width": Ordinal((1, 2, 4))}
    )
    new_space = DecisionSpace({"op": Choice(("b", "c")), "edges": Subset((2, 3, 4)), "width": Ordinal((2, 4, 6))})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    def objective(trial: optuna.Trial) -> float:
        suggest(trial, old_space)
        return trial.suggest_float("op rate", 0.0, 1.0)

    study.optimize(objective, n_trials=60)
    expected = {}
    for trial in study.trials:
        values = dict(trial.user_attrs[ARCHITECTURE])
        if values["op"] == "b" and 1 not in values["edges"] and values["width"] != 1:
            expected[trial.number] = values
    adapted = adapted_trials(study.trials, new_space)
    assert len(expected) > 3
    assert [trial.user_attrs[ARCHITECTURE] for trial in adapted] == list(expected.values())
    for trial, number in zip(adapted, expected, strict=True):
        assert trial.params["op rate"] == trial.value == study.trials[number].value
        assert architecture_of(trial.params, new_space) == architecture_of(study.trials[number], new_space)
    fresh = optuna.create_study()
    fresh.add_trials(adapted)
    assert len(fresh.trials) == len(expected)


def test_studies_of_earlier_versions_stay_readable() -> None:
    """Earlier versions wrote positions for ordinals in unequal steps, and no attributes."""
    space = widths(0.5, 1, 2)
    trials = [
        create_trial(params={"width": position}, distributions={"width": IntDistribution(0, 2)}, value=float(position))
        for position in range(3)
    ]
    assert [width_of(trial, space) for trial in trials] == [0.5, 1, 2]
    assert [width_of(trial, widths(0.5, 1, 2, 4.5)) for trial in trials] == [None] * 3
    study = optuna.create_study()
    study.add_trials(trials)
    with pytest.raises(SpaceError, match="adapted_trials"):
        suggest(study.ask(), space)
    fresh = optuna.create_study()
    fresh.add_trials(adapted_trials(trials, space))
    assert [trial.params["width"] for trial in fresh.trials] == [0.5, 1, 2]
    suggest(fresh.ask(), space)
