"""The contracts of automl_nas, and tests of the two components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import entry_points

import pytest
from automl_nas_example.activations import Activations
from automl_nas_example.annealing import Annealing
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import default_manager
from automl_nas.space import Architecture, Choice, Decision, SearchSpace
from automl_nas.strategy import Problem, Trial
from automl_nas.testing import AskTellContract, CostModelContract, PluginContract, ToySpace


class TestPlugin(PluginContract):
    module = "automl_nas_example"


class TestAnnealing(AskTellContract):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> Annealing:
        return Annealing(space, problem, seed=seed)


class TestActivations(CostModelContract):
    def make_space(self) -> SearchSpace:
        return Widths()

    def make(self, space: SearchSpace) -> Activations:
        return Activations(space)


def test_the_entry_point_registers_the_components() -> None:
    (entry_point,) = entry_points(group="automl_nas", name="example")
    assert entry_point.value == "automl_nas_example"
    registry = default_manager().registry
    assert registry.get("strategies", "annealing").distribution == "automl-nas-example"
    assert registry.get("cost_models", "activations").load() is Activations


class Widths(SearchSpace):
    """Two convolutions, the first with a searched width, and a linear layer that runs twice."""

    @property
    def decisions(self) -> dict[str, Decision]:
        return {"width": Choice((2, 5))}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (3, 8, 8)

    def build(self, architecture: Architecture) -> nn.Module:
        width = self.validate(architecture)["width"]
        assert isinstance(width, int)
        return Network(width)


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.second = nn.Conv2d(width, 6, 1)
        self.head = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.second(self.first(x)).mean((2, 3))
        return self.head(self.head(pooled))


@pytest.mark.parametrize("width", [2, 5])
def test_activations_are_the_sizes_of_outputs(width: int) -> None:
    # With stride 2, 8 x 8 pixels become 4 x 4: 16 positions for each channel.
    architecture = Architecture({"width": width})
    assert Activations(Widths()).breakdown(architecture) == {"first": 16 * width, "second": 16 * 6}
    assert Activations(Widths(), linear=True).estimate(architecture) == 16 * width + 16 * 6 + 2 * 6


def scores_after(scores: Sequence[float], *, temperature: float, cooling: float = 1.0) -> list[float]:
    """Tell trials with these scores one by one; return the score of the current architecture after each."""
    space = ToySpace()
    strategy = Annealing(space, Problem({"accuracy": "maximize"}), temperature=temperature, cooling=cooling, seed=3)
    current = []
    for number, score in enumerate(scores):
        architecture = strategy.ask(1)[0].architecture
        strategy.tell([Trial(number, architecture, {"accuracy": score})])
        current.append(strategy.search_state()["score"])
    return current


def test_at_low_temperature_only_candidates_that_are_not_worse_are_accepted() -> None:
    assert scores_after([0.1, 0.3, 0.2, 0.4, 0.4, math.nan], temperature=1e-9) == [0.1, 0.3, 0.3, 0.4, 0.4, 0.4]


def test_worse_candidates_are_accepted_with_the_probability_of_metropolis() -> None:
    # Alternating scores: 0, which is always accepted because no score is better, then a loss of ln 2, accepted with
    # probability 1/2 at temperature 1. The share in 2,000 independent draws has a standard deviation of 0.0112; the
    # tolerance of 0.045 is four of them.
    strategy = Annealing(ToySpace(), Problem({"accuracy": "maximize"}), temperature=1.0, cooling=1.0, seed=0)
    architecture = ToySpace().validate({"d0": 0, "d1": 0, "d2": 0, "d3": 0})
    accepted = 0
    for number in range(2000):
        strategy.tell([Trial(number, architecture, {"accuracy": 0.0})])
        strategy.tell([Trial(number, architecture, {"accuracy": -math.log(2)})])
        accepted += strategy.search_state()["score"] < 0
    assert abs(accepted / 2000 - 0.5) < 0.045


@pytest.mark.parametrize(
    ("setting", "value"), [("temperature", 0.0), ("cooling", 0.0), ("cooling", 1.1), ("attempts", 0)]
)
def test_settings_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"^stages\\[0\\].strategy.{setting}: must be"):
        spec = {"name": "annealing", setting: value}
        collaborators = [ToySpace(), Problem({"accuracy": "maximize"})]
        default_manager().registry.construct("strategies", spec, collaborators, path="stages[0].strategy")
