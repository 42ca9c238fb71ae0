"""The best architecture under budgets, against all architectures of small spaces."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings, strategies as st

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.costs.knapsack import CostInterval, best_under_limits
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
from automl_nas.space.operators import enumerate_all

Weights = Mapping[str, list[float]]


def total(decisions: Mapping[str, Decision], weights: Weights, architecture: Architecture) -> float:
    found = []
    for name, decision in decisions.items():
        value = architecture[name]
        for option in value if isinstance(value, tuple) else (value,):
            found.append(weights[name][decision.position(option)])
    return math.fsum(found)


class Given(CostModel):
    metric, unit = "given", "units"

    def __init__(self, decisions: Mapping[str, Decision], weights: Weights, integral: bool) -> None:
        self._decisions, self._weights = decisions, weights
        self.integral = integral  # type: ignore[misc]

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        value = total(self._decisions, self._weights, architecture)
        return {"": int(value) if self.integral else value}


DECISIONS: Mapping[str, Decision] = {
    "a": Choice(("x", "y", "z")),
    "b": Ordinal((1, 2, 4)),
    "edges": Subset(("p", "q")),
    "pair": Subset(("s", "t", "u", "v"), min=1, max=2),
    "c": Choice((True, 1)),
}
ALL = list(enumerate_all(DECISIONS))


def weights(rng: random.Random, *, whole: bool) -> Weights:
    draw = (lambda: float(rng.randrange(20))) if whole else (lambda: rng.uniform(0, 10))
    return {name: [draw() for _ in decision.options] for name, decision in DECISIONS.items()}


@given(seed=st.integers(0, 10**6), limited=st.integers(1, 3), whole=st.booleans(), both=st.booleans())
@settings(max_examples=12, deadline=None)
def test_the_best_of_all_architectures(seed: int, limited: int, whole: bool, both: bool) -> None:
    rng = random.Random(seed)
    score = {name: [rng.uniform(-5, 5) for _ in decision.options] for name, decision in DECISIONS.items()}
    limits: list[CostInterval] = []
    feasible = ALL
    for _ in range(limited):
        table = CostTable.build(Given(DECISIONS, weights(rng, whole=whole), whole), DecisionSpace(DECISIONS), checks=8)
        costs = sorted(table.estimate(architecture) for architecture in ALL)
        low, high = (costs[len(costs) // 10] if both else -math.inf), costs[len(costs) // 3]
        limits.append(CostInterval(table, low, high))
        feasible = [item for item in feasible if low <= table.estimate(item) <= high]
    if not feasible:
        with pytest.raises(InfeasibleError, match="no architecture has given"):
            best_under_limits(DECISIONS, score, limits)
        return
    found = best_under_limits(DECISIONS, score, limits)
    assert found.exact
    assert found.bound == found.score == total(DECISIONS, score, found.architecture)
    assert all(limit.low <= limit.table.estimate(found.architecture) <= limit.high for limit in limits)
    # Two architectures may tie but for rounding in sums of a few numbers below 10.
    assert found.score == pytest.approx(max(total(DECISIONS, score, item) for item in feasible), abs=1e-9)


def knapsack(seed: int, count: int) -> tuple[Mapping[str, Decision], Weights, CostTable]:
    """A knapsack whose values are near its weights, the hard kind."""
    rng = random.Random(seed)
    decisions = {f"d{place}": Choice(("out", "in")) for place in range(count)}
    sizes = {name: [0.0, float(rng.randrange(100, 1000))] for name in decisions}
    score = {name: [0.0, sizes[name][1] + rng.uniform(-20, 20)] for name in decisions}
    return decisions, score, CostTable.build(Given(decisions, sizes, True), DecisionSpace(decisions))


def test_a_knapsack_agrees_with_dynamic_programming() -> None:
    decisions, score, table = knapsack(1, 30)
    capacity = int(table.largest[1]) // 2
    best = [0.0] * (capacity + 1)
    for name in decisions:
        size, worth = int(table.contributions[name][1]), score[name][1]
        best = [max(best[c], best[c - size] + worth) if c >= size else best[c] for c in range(capacity + 1)]
    found = best_under_limits(decisions, score, [CostInterval(table, high=capacity)])
    assert found.exact
    assert found.score == pytest.approx(best[capacity], abs=1e-6)


def test_an_incomplete_search_returns_a_bound() -> None:
    decisions, score, table = knapsack(2, 40)
    half = table.largest[1] / 2
    exact = best_under_limits(decisions, score, [CostInterval(table, high=half)])
    cut = best_under_limits(decisions, score, [CostInterval(table, high=half)], most_states=2)
    assert exact.exact
    assert table.estimate(cut.architecture) <= half
    assert cut.score <= exact.score <= cut.bound + 1e-6
    assert cut.exact == (cut.score == cut.bound)


def test_without_limits_it_is_the_extreme_of_a_table() -> None:
    table = CostTable.build(Given(DECISIONS, weights(random.Random(3), whole=True), True), DecisionSpace(DECISIONS))
    dearest = best_under_limits(DECISIONS, table.contributions, [])
    cheapest = best_under_limits(
        DECISIONS, {name: [-value for value in row] for name, row in table.contributions.items()}, []
    )
    assert table.estimate(dearest.architecture) == table.largest[1]
    assert table.estimate(cheapest.architecture) == table.smallest[1]


def test_a_limit_that_no_architecture_meets_is_named() -> None:
    table = CostTable.build(Given(DECISIONS, weights(random.Random(3), whole=True), True), DecisionSpace(DECISIONS))
    score = {name: [0.0] * len(decision.options) for name, decision in DECISIONS.items()}
    with pytest.raises(InfeasibleError, match="given from -inf to -1 units"):
        best_under_limits(DECISIONS, score, [CostInterval(table, high=-1)])


def test_a_score_must_fit_the_decisions() -> None:
    score = {name: [0.0] * len(decision.options) for name, decision in DECISIONS.items()}
    with pytest.raises(SpaceError, match="lacks the decision 'a'"):
        best_under_limits(DECISIONS, {}, [])
    with pytest.raises(SpaceError, match="2 numbers for 3 options"):
        best_under_limits(DECISIONS, {**score, "a": [1.0, 2.0]}, [])
    with pytest.raises(SpaceError, match="must be finite numbers"):
        best_under_limits(DECISIONS, {**score, "a": [1.0, 2.0, math.nan]}, [])
    with pytest.raises(SpaceError, match="too large"):
        best_under_limits({"many": Subset(tuple(range(30)), min=10)}, {"many": [0.0] * 30}, [])
