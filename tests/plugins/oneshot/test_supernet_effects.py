"""Scores from the effects of decisions: against scikit-learn, a space that is additive, and scores by hand."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from plugins.oneshot.conftest import MemoryArtifacts, make_space, make_weights
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from torch import Tensor

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.operators import enumerate_all
from automl_nas.testing.evaluators import EvaluatorContract
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.supernet_effects import AdditiveModel, SupernetEffects, features, random_networks
from automl_nas_oneshot.supernet_weights import SupernetWeights

SETTINGS: dict[str, Any] = {"recalibration_images": 32, "networks": 9}


class TestContractWithOwnScores(EvaluatorContract):
    def make_space(self) -> ModuleSpace:
        return make_space()

    def make_evaluator(self, space: Any) -> SupernetEffects:
        artifacts = MemoryArtifacts(supernet=make_weights())
        settings = {**SETTINGS, "own_weight": 0.5}
        return SupernetEffects(space, self.make_task(), Runtime(device="cpu"), artifacts, **settings)

    def make_task(self) -> ToyTask:
        return ToyTask(train=80)


class TestContract(EvaluatorContract):
    def make_space(self) -> ModuleSpace:
        return make_space()

    def make_evaluator(self, space: Any) -> SupernetEffects:
        artifacts = MemoryArtifacts(supernet=make_weights())
        return SupernetEffects(space, self.make_task(), Runtime(device="cpu"), artifacts, **SETTINGS)

    def make_task(self) -> ToyTask:
        return ToyTask(train=80)


def test_the_model_is_ridge_regression_and_explains_what_it_predicts_of_networks_left_out() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 2, (40, 7)).astype(float)
    values = inputs @ rng.normal(size=7) + rng.normal(size=40)
    model, other = AdditiveModel.fit(inputs, values), Ridge(alpha=1.0).fit(inputs, values)
    assert model.predict(inputs) == pytest.approx(other.predict(inputs), rel=1e-9)
    left_out = cross_val_predict(Ridge(alpha=1.0), inputs, values, cv=LeaveOneOut())
    # The constant of the closed form is fitted again for each network as well, since the inputs are centred anew.
    expected = 1 - ((values - left_out) ** 2).sum() / ((values - values.mean()) ** 2).sum()
    assert model.explained == pytest.approx(expected, abs=1e-6)


def test_features_are_one_column_for_each_option() -> None:
    decisions = {"a": Choice(("x", "y")), "b": Ordinal((1, 2, 4)), "c": Subset(("p", "q"))}
    networks = [Architecture({"a": "y", "b": 1, "c": ("q",)}), Architecture({"a": "x", "b": 4, "c": ("p", "q")})]
    assert features(networks, decisions).tolist() == [[0, 1, 1, 0, 0, 0, 1], [1, 0, 0, 0, 1, 1, 1]]


def test_predictions_are_those_of_ridge_regression_on_the_scores_of_supernet_weights(
    space: ModuleSpace, task: ToyTask, runtime: Runtime, weights: dict[str, Tensor]
) -> None:
    artifacts = MemoryArtifacts(supernet=weights)
    networks = list(enumerate_all(space.decisions))  # 9 networks, and the sample is all of them
    requests = [Request(number, each, seed=number) for number, each in enumerate(networks)]
    plain = SupernetWeights(space, task, runtime, artifacts, recalibration_images=32)
    losses = np.array([outcome.metrics["loss"] for outcome in plain.evaluate(requests)])
    inputs = features(networks, space.decisions)
    expected = Ridge(alpha=1.0).fit(inputs, losses).predict(inputs)
    evaluator = SupernetEffects(space, task, runtime, artifacts, **SETTINGS)
    outcomes = list(evaluator.evaluate(requests))
    assert [outcome.metrics["loss"] for outcome in outcomes] == pytest.approx(expected, rel=1e-6)
    assert outcomes[0].info["networks"] == 9
    assert set(outcomes[0].metrics) == set(task.metrics)


@pytest.mark.parametrize("together", [1, 50])
def test_with_own_scores_metrics_are_the_weighted_mean_of_the_scores_and_the_predictions(
    space: ModuleSpace, together: int
) -> None:
    requests = [Request(number, each, seed=number) for number, each in enumerate(enumerate_all(space.decisions))]
    artifacts = MemoryArtifacts(supernet=make_weights())
    task, runtime = ToyTask(train=80), Runtime(device="cpu")
    plain = SupernetWeights(space, task, runtime, artifacts, recalibration_images=32)
    scores = [outcome.metrics for outcome in plain.evaluate(requests)]
    predictions = [outcome.metrics for outcome in make(space).evaluate(requests)]
    mixing = make(space, own_weight=0.25, together=together)
    outcomes = list(mixing.evaluate(iter(requests)))
    assert mixing.taken_ahead == together
    assert [outcome.number for outcome in outcomes] == list(range(9))
    for outcome, own, predicted in zip(outcomes, scores, predictions, strict=True):
        assert set(outcome.metrics) == set(task.metrics)
        for name, value in outcome.metrics.items():
            assert value == pytest.approx(0.25 * own[name] + 0.75 * predicted[name], rel=1e-9)
        assert outcome.info["own"] == own
        assert outcome.info["networks"] == 9


def test_a_candidate_whose_own_scores_are_not_finite_fails(space: ModuleSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluator = make(space, own_weight=0.5)
    architecture = next(enumerate_all(space.decisions))
    list(evaluator.evaluate([Request(0, architecture, seed=0)]))
    monkeypatch.setattr(SupernetWeights, "evaluate", lambda self, requests: [_failed(each) for each in requests])
    (outcome,) = evaluator.evaluate([Request(4, architecture, seed=0)])
    assert (outcome.number, outcome.state, outcome.error) == (4, State.FAILED, "loss is nan")


@pytest.mark.parametrize("weight", [-0.1, 1.0, float("nan")])
def test_a_weight_of_own_scores_outside_its_range_is_refused(space: ModuleSpace, weight: float) -> None:
    with pytest.raises(ConfigurationError, match="below 1") as error:
        make(space, own_weight=weight)
    assert error.value.path == "own_weight"


def test_the_sample_is_different_networks_in_an_order_that_shares_work(space: ModuleSpace) -> None:
    networks = random_networks(space, 5)
    codes = [tuple(decision.encode(each[name])[0] for name, decision in space.decisions.items()) for each in networks]
    assert len(set(codes)) == 5
    assert codes == sorted(codes)
    assert random_networks(space, 100) == list(enumerate_all(space.decisions))


def make(space: ModuleSpace, **settings: Any) -> SupernetEffects:
    artifacts = MemoryArtifacts(supernet=make_weights())
    return SupernetEffects(space, ToyTask(train=80), Runtime(device="cpu"), artifacts, **{**SETTINGS, **settings})


@pytest.mark.parametrize(("name", "value"), [("networks", 1), ("recalibration_images", -1), ("together", 0)])
def test_a_setting_outside_its_range_is_refused(space: ModuleSpace, name: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=f"at least {value + 1}") as error:
        make(space, **{name: value})
    assert error.value.path == name


def test_networks_without_finite_metrics_are_left_out(space: ModuleSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SupernetWeights, "evaluate", lambda self, requests: [_failed(each) for each in requests])
    with pytest.raises(EvaluationError, match="0 of 9 random networks"):
        list(make(space).evaluate([Request(0, next(enumerate_all(space.decisions)), seed=0)]))


def _failed(request: Request) -> Outcome:
    return Outcome(request.number, state=State.FAILED, error="loss is nan")


def test_a_warning_says_that_decisions_depend_on_each_other(
    space: ModuleSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def score(self: SupernetWeights, requests: list[Request]) -> list[Outcome]:
        places = [[d.encode(r.architecture[name])[0] for name, d in space.decisions.items()] for r in requests]
        # The effect of one decision is the opposite with another option of the other decision.
        values = [(one - 1) * (other - 1) for one, other in places]
        return [Outcome(r.number, {"loss": float(value)}) for r, value in zip(requests, values, strict=True)]

    monkeypatch.setattr(SupernetWeights, "evaluate", score)
    with caplog.at_level(logging.WARNING):
        (outcome,) = make(space).evaluate([Request(0, next(enumerate_all(space.decisions)), seed=0)])
    assert "explain 0 % of the variance" in caplog.text
    assert outcome.info["explained"]["loss"] < 0  # type: ignore[index]


def test_a_short_trial_run_scores_fewer_networks() -> None:
    shortened = SupernetEffects.shortened({"networks": 500}, 0.1)
    assert (shortened.share, shortened.settings) == (0.1, {"networks": 50})
    assert SupernetEffects.shortened({"networks": 500}, 0.0001).settings == {"networks": 2}
