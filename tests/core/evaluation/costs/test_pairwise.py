"""Costs that are sums over pairs of decisions: costs and extremes are those of estimating every architecture."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from typing import ClassVar

import pytest

from automl_nas.evaluation import CostModel, TabulatedCost
from automl_nas.evaluation.costs.pairwise import architecture_at, pairwise_costs
from automl_nas.space import Architecture, Choice, Decision, DecisionSpace, Ordinal, Subset, enumerate_all

WIDTHS = (8, 16, 24, 32)


def chain(architecture: Mapping[str, object]) -> int:
    """Return the multiply-adds of 3x3 convolutions with these widths on one pixel."""
    widths = [1, *(int(str(width)) for width in architecture.values())]
    return sum(9 * a * b for a, b in pairwise(widths))


class Counted(CostModel):
    """A cost by a function, which counts the architectures it is asked for."""

    metric: ClassVar[str] = "cost"
    unit: ClassVar[str] = "units"
    integral: ClassVar[bool] = True

    def __init__(self, function: Callable[[Mapping[str, object]], float]) -> None:
        self._function = function
        self.asked: Counter[Architecture] = Counter()

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """See the base class."""
        self.asked[architecture] += 1
        return {"all": self._function(architecture)}


def space(count: int, options: tuple[int, ...] = WIDTHS) -> DecisionSpace:
    return DecisionSpace({f"w{position}": Ordinal(options) for position in range(count)})


def test_the_extremes_of_a_chain_of_widths() -> None:
    """Six widths of four options: 154 terms and 66 verified architectures instead of 4,096.

    Some are estimated again, by the attempt to make a table of single decisions.
    """
    widths = space(6)
    model = Counted(chain)
    extremes = TabulatedCost(model, widths).extremes()
    everything = {architecture: chain(architecture) for architecture in enumerate_all(widths.decisions)}
    assert extremes.exact
    assert extremes.smallest_value == min(everything.values()) == everything[extremes.smallest]
    assert extremes.largest_value == max(everything.values()) == everything[extremes.largest]
    assert len(model.asked) <= 154 + 66
    assert model.asked.total() < 300


@pytest.mark.parametrize("whole", [True, False])
def test_all_costs_of_random_sums(whole: bool) -> None:
    decisions: dict[str, Decision] = {
        "a": Choice(("x", "y", "z")),
        "b": Ordinal((1, 2, 3, 4)),
        "c": Choice((True, False)),
        "d": Ordinal((0.5, 1.0, 2.0, 4.0, 8.0)),
    }
    rng = random.Random(1)
    terms: dict[tuple[object, ...], float] = {}

    def estimate(architecture: Architecture) -> float:
        total: float = 1000
        for (one, first), (other, second) in combinations(architecture.items(), 2):
            key = one, first, other, second
            if key not in terms:
                terms[key] = rng.randrange(100) if whole else rng.random()
            total += terms[key]
        return total

    costs = pairwise_costs(estimate, decisions, seed=0, checks=4)
    assert costs is not None
    assert costs.shape == (3, 4, 2, 5)
    for index, architecture in enumerate(enumerate_all(decisions)):
        assert architecture_at(decisions, index) == architecture
        # Rounding in sums of some twenty doubles of up to 1,000 stays below 1e-11.
        assert abs(costs.flat[index] - estimate(architecture)) <= (0 if whole else 1e-11)


def triple(architecture: Mapping[str, object]) -> int:
    first, second, third, *_ = (int(str(value)) for value in architecture.values())
    return 1 + first * second * third


def broken(architecture: Mapping[str, object]) -> float:
    return math.inf if architecture["w0"] == 8 and architecture["w1"] == 32 else chain(architecture)


@pytest.mark.parametrize(("function", "counts_all"), [(triple, False), (broken, True)])
def test_other_costs_are_enumerated(function: Callable[[Mapping[str, object]], float], counts_all: bool) -> None:
    """Three of five decisions, whose combinations repeat, and networks that do not run, which are always counted."""
    widths = space(5)
    model = Counted(function)
    extremes = TabulatedCost(model, widths).extremes()
    finite = [cost for a in enumerate_all(widths.decisions) if math.isfinite(cost := function(a))]
    assert extremes.exact
    assert (extremes.smallest_value, extremes.largest_value) == (min(finite), max(finite))
    assert (len(model.asked) == 4**5) == counts_all


def test_what_is_not_tried() -> None:
    small = {"a": Choice((0, 1)), "b": Choice((0, 1))}
    subsets = {**space(6).decisions, "s": Subset((0, 1))}
    for decisions in (small, subsets):
        assert pairwise_costs(lambda architecture: 1, decisions, seed=0, checks=0) is None
