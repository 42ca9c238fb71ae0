from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

import pytest

from automl_nas.evaluation.costs.by_module import ModuleCosts, NotLocalError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Ordinal, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.testing.toys import ToySpace


class Chain(ToySpace):
    """Layers of searched widths in two blocks, the second of which a depth may leave out, and skips as a subset."""

    def __init__(self) -> None:
        super().__init__()
        self._decisions = {
            **{f"width{number}": Ordinal((4, 8, 12, 16)) for number in range(4)},
            "depth": Ordinal((1, 2)),
            "skips": Subset(("a", "b"), min=0),
        }

    @property
    def decisions(self) -> Mapping[str, object]:  # type: ignore[override]
        return self._decisions


class Products(CostModel):
    """Multiply-adds of the layers of `Chain`: products of two widths, three of them only at depth 2."""

    metric: ClassVar[str] = "flops"
    unit: ClassVar[str] = "multiply-adds"
    integral: ClassVar[bool] = True

    def __init__(self) -> None:
        self.counted: Counter[Architecture] = Counter()

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        self.counted[architecture] += 1
        widths = [int(str(architecture[f"width{number}"])) for number in range(4)]
        layers = {"stem": 3.0, "one": float(3 * widths[0]), "two": float(widths[0] * widths[1])}
        if architecture["depth"] == 2:
            layers |= {"three": float(widths[1] * widths[2]), "four": float(widths[2] * widths[3])}
        return layers | {f"skip_{each}": float(widths[0] + 1) for each in architecture["skips"]}  # type: ignore[union-attr]


class Hidden(Products):
    """A cost that depends on two widths together only: no change of one of them shows it, nor do the extremes."""

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        pair = (architecture["width0"], architecture["width3"]) == (8, 12)
        return {**super().breakdown(architecture), "stem": 5.0 if pair else 3.0}


def test_all_architectures_cost_what_the_model_counts() -> None:
    space, model = Chain(), Products()
    costs = ModuleCosts(model, space, seed=0, checks=8)
    architectures = [*enumerate_all(space.decisions)]
    assert len(architectures) == 4**4 * 2 * 4
    random.Random(0).shuffle(architectures)
    for architecture in architectures:
        assert costs.estimate(architecture) == sum(Products().breakdown(architecture).values())


def test_few_architectures_are_counted() -> None:
    space, model = Chain(), Products()
    costs = ModuleCosts(model, space, seed=0, checks=8)
    for architecture in enumerate_all(space.decisions):
        costs.estimate(architecture)
    # A layer has at most 4 x 4 x 2 combinations of its own, and each count adds one for every layer.
    assert len(model.counted) < 200


def test_a_dependence_that_no_single_change_shows_is_noticed() -> None:
    with pytest.raises(NotLocalError, match="in another network with the same options"):
        # 64 checks cover all pairs of options, so also these two widths.
        ModuleCosts(Hidden(), Chain(), seed=0, checks=64)


def test_a_model_that_a_comparison_refutes_is_asked_each_time(caplog: pytest.LogCaptureFixture) -> None:
    space, model = Chain(), Hidden()
    cost = TabulatedCost(model, space, checks=4)  # too few to meet the pair
    with caplog.at_level(logging.WARNING):
        values = {architecture: cost.estimate(architecture) for architecture in enumerate_all(space.decisions)}
    refuted = "one sum was wrong" in caplog.text
    exact = {architecture: sum(Hidden().breakdown(architecture).values()) for architecture in values}
    assert refuted
    assert {each: cost.estimate(each) for each in values} == exact


def test_fractions_are_refused() -> None:
    class Fractions(Products):
        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {**super().breakdown(architecture), "stem": 0.5}

    with pytest.raises(NotLocalError, match="whole"):
        ModuleCosts(Fractions(), Chain(), seed=0, checks=8)


def test_a_tabulated_cost_counts_few_networks_without_a_table() -> None:
    space, model = Chain(), Products()
    cost = TabulatedCost(model, space, checks=8)
    for architecture in enumerate_all(space.decisions):
        assert cost.estimate(architecture) == sum(Products().breakdown(architecture).values())
    assert not cost.additive
    assert len(model.counted) < 300


def test_a_model_with_an_estimate_of_its_own_is_always_asked() -> None:
    class Own(Products):
        def estimate(self, architecture: Architecture) -> float:
            return 2 * sum(self.breakdown(architecture).values())

    space = Chain()
    cost = TabulatedCost(Own(), space, checks=8)
    for architecture in enumerate_all(space.decisions):
        assert cost.estimate(architecture) == 2 * sum(Products().breakdown(architecture).values())
