"""What is known before a run is refused before it: comparisons without a metric, impossible measured limits, names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import nn

import automl_nas
from automl_nas.errors import ConfigurationError, InfeasibleError, PluginError
from automl_nas.evaluation import CostModel, MeasuredCost, Measurement
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace, ToyTask

STAGE = {"name": "search", "strategy": "random", "evaluator": ToyEvaluator}


def plan(**sections: Any) -> None:
    raw = {"space": ToySpace, "problem": {"objectives": {"accuracy": "maximize"}}, "stages": [STAGE], "final": None}
    make_plan({**raw, **sections}, complete_manager().registry)


def test_a_stage_without_evaluator_after_a_training() -> None:
    stages = [{"name": "first", **{k: v for k, v in STAGE.items() if k != "name"}}, {"name": "b", "strategy": "random"}]
    with pytest.raises(ConfigurationError, match=r"^stages\[1\]\.evaluator: candidates .* compared by 'accuracy'"):
        plan(task=ToyTask, stages=stages)
    plan(task=ToyTask, stages=[stages[0], {**stages[1], "budget": {"trials": 1}}])
    plan(stages=[stages[1]], problem={"objectives": {"cost": "minimize"}, "costs": {"cost": {"name": ToyCost}}})


class Nameless(CostModel):
    """A cost model without ``metric``."""

    unit: ClassVar[str] = "units"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"all": 1.0}


def test_a_cost_model_without_metric() -> None:
    with pytest.raises(PluginError, match=r"the cost model Nameless .* needs a class attribute 'metric'"):
        plan(problem={"objectives": {"accuracy": "maximize"}, "costs": {"own": {"name": Nameless}}})


def test_a_misspelt_name() -> None:
    with pytest.raises(ConfigurationError, match=r"^space\.name: .*; did you mean 'name' instead of 'nmae'\?"):
        plan(space={"nmae": "dso"})


class Slow(MeasuredCost):
    """Measures 5 ms plus the toy cost."""

    metric: ClassVar[str] = "slow_ms"
    unit: ClassVar[str] = "ms"
    noisy: ClassVar[bool] = True
    exported_suffix: ClassVar[str] = ".onnx"

    def __init__(self, space: SearchSpace) -> None:
        self._cost = ToyCost(space)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"all": 5.0 + self._cost.estimate(architecture)}

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        raise NotImplementedError

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        raise NotImplementedError


@pytest.mark.parametrize(("limit", "warns"), [("<= 4", True), ("<= 6", False)])
def test_a_measured_limit_below_the_cheapest_network(limit: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    costs = {"toy": {"name": ToyCost}, "slow": {"name": Slow}}
    plan(problem={"objectives": {"accuracy": "maximize"}, "constraints": {"slow": limit}, "costs": costs})
    message = "the limit 'slow <= 4' may be impossible: the networks with the lowest other costs have 5 ms"
    assert (message in caplog.text) == warns


class Sparse(ToyCost):
    """Ten times the toy cost: 0, 10, 20, ... 80."""

    metric: ClassVar[str] = "sparse"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {name: 10 * value for name, value in super().breakdown(architecture).items()}


def test_an_interval_between_two_costs() -> None:
    problem = {"objectives": {"accuracy": "maximize"}, "costs": {"sparse": {"name": Sparse}}}
    plan(problem={**problem, "constraints": {"sparse": "41..50"}})
    with pytest.raises(InfeasibleError, match=r"nearest cost below is 40 .*; the nearest cost above is 50 .*change a"):
        plan(problem={**problem, "constraints": {"sparse": "41..49"}})


class Product(ToyCost):
    """1 more than the product of all numbers of a code, which is no sum over decisions: 1 to 257."""

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"all": 1.0 + math.prod(super().breakdown(architecture).values())}


@pytest.mark.parametrize(("limit", "warns"), [("<= 0.5", True), (">= 300", True), ("<= 2", False), (">= 200", False)])
def test_a_limit_beyond_both_ends_of_a_large_space(limit: str, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    problem = {"objectives": {"accuracy": "maximize"}, "costs": {"product": {"name": Product}}}
    space = {"name": ToySpace, "blocks": 8}  # 6,561 architectures: too many to enumerate for their extremes
    plan(space=space, problem={**problem, "constraints": {"product": limit}})
    message = f"'product {limit}' may be impossible: the networks of the first and of the last options have 1 and 257"
    assert (message in caplog.text) == warns


def test_a_search_for_extremes_is_announced_once(caplog: pytest.LogCaptureFixture) -> None:
    problem = {"objectives": {"accuracy": "maximize"}, "costs": {"product": {"name": Product}}}
    stage = {**STAGE, "problem": {"constraints": {"product": "<= 0.5 * largest"}}}
    plan(space={"name": ToySpace, "blocks": 8}, problem=problem, stages=[stage, {**stage, "name": "again"}])
    assert caplog.text.count("a limit on toy_cost is relative to the space, and the cost has no table") == 1


class AsksTooMuch(AskTellStrategy):
    """Returns one proposal more than it was asked for."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def ask(self, n: int) -> list[Proposal]:
        return [Proposal(self._space.sample(stream(number, "one"))) for number in range(n + 1)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def search_state(self) -> dict[str, Any]:
        return {}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""


def test_more_proposals_than_asked_for(tmp_path: Path) -> None:
    raw = {
        "space": ToySpace,
        "problem": {"objectives": {"accuracy": "maximize"}},
        "stages": [{**STAGE, "strategy": AsksTooMuch}],
        "final": None,
    }
    with pytest.raises(PluginError, match=r"AsksTooMuch\.ask\(1\) returned 2 proposals; it must return at most 1"):
        automl_nas.search(raw, out=tmp_path / "run")
