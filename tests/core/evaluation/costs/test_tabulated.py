from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.toys import ToyCost, ToySpace


def digits(architecture: Architecture) -> list[int]:
    return [int(str(value)) for value in architecture.values()]


class Product(CostModel):
    """Cost of neighbours multiplied: as far from additive as can be."""

    metric: ClassVar[str] = "params"
    unit: ClassVar[str] = "parameters"
    integral: ClassVar[bool] = True

    def __init__(self) -> None:
        self.calls: Counter[Architecture] = Counter()

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        self.calls[architecture] += 1
        widths = [1 + digit for digit in digits(architecture)]
        return {f"layer{n}": a * b for n, (a, b) in enumerate(pairwise(widths))}


class TestTheContract(CostModelContract):
    def make_space(self) -> SearchSpace:
        return ToySpace()

    def make(self, space: SearchSpace) -> CostModel:
        return TabulatedCost(ToyCost(space), space)


class TestTheContractWithoutATable(CostModelContract):
    def make_space(self) -> SearchSpace:
        return ToySpace(blocks=3)

    def make(self, space: SearchSpace) -> CostModel:
        return TabulatedCost(Product(), space)

    def test_an_architecture_of_another_space_is_refused(self) -> None:
        """Without a table the model inside judges, and this one takes anything."""


def test_an_additive_cost_comes_from_the_table() -> None:
    space = ToySpace(blocks=6, options=4)
    cost = TabulatedCost(ToyCost(space), space)
    assert cost.additive
    assert (cost.metric, cost.unit, cost.integral, cost.reason) == ("toy_cost", "units", True, "")
    architectures = list(enumerate_all(space.decisions))[::7]
    want = [sum(digits(architecture)) for architecture in architectures]
    assert [cost.estimate(architecture) for architecture in architectures] == want
    assert cost.table is not None
    assert cost.estimates(cost.table.encode(architectures)).tolist() == want
    found = cost.extremes()
    assert (found.smallest_value, found.largest_value, found.exact) == (0, 18, True)
    assert digits(found.largest) == [3] * 6


def test_a_cost_that_is_not_additive_is_estimated_once() -> None:
    space = ToySpace(blocks=4, options=3)
    model = Product()
    cost = TabulatedCost(model, space)
    assert not cost.additive
    assert "'params' is not additive" in cost.reason
    everything = list(enumerate_all(space.decisions))
    model.calls.clear()
    for _ in range(3):
        found = [cost.estimate(architecture) for architecture in everything]
    assert found == [Product().estimate(architecture) for architecture in everything]
    assert set(model.calls.values()) == {1}
    codes = np.array([digits(architecture) for architecture in everything])
    assert cost.estimates(codes).tolist() == found
    extremes = cost.extremes()
    assert (extremes.smallest_value, extremes.largest_value, extremes.exact) == (min(found), max(found), True)
    assert cost.estimate(extremes.largest) == max(found)


def test_extremes_of_a_large_space_are_from_a_search_and_not_exact() -> None:
    space = ToySpace(blocks=8, options=4)
    found = TabulatedCost(Product(), space).extremes()
    assert not found.exact
    # Seven products of widths 1 to 4.
    assert (found.smallest_value, found.largest_value) == (7, 7 * 16)
    assert found == TabulatedCost(Product(), ToySpace(blocks=8, options=4)).extremes()


def test_extremes_of_large_subsets_keep_their_sizes() -> None:
    class Edges(ToySpace):
        @property
        def decisions(self) -> Mapping[str, Subset]:
            return {"edges": Subset(tuple(range(20)), min=2, max=9)}

    class Square(Product):
        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": sum(int(str(edge)) for edge in architecture["edges"]) ** 2}  # type: ignore[union-attr]

    found = TabulatedCost(Square(), Edges()).extremes()
    assert (found.smallest_value, found.largest_value) == (1, sum(range(11, 20)) ** 2)
    assert found.smallest["edges"] == (0, 1)


def test_a_problem_accepts_it() -> None:
    space = ToySpace(blocks=3)
    cost = TabulatedCost(ToyCost(space), space)
    extremes = cost.extremes()
    limit = parse_constraint("toy_cost", "<= 0.5 * largest", lambda: (extremes.smallest_value, extremes.largest_value))
    problem = Problem({"accuracy": "maximize"}, [limit], {"toy_cost": cost})
    feasible = [problem.feasible(architecture) for architecture in enumerate_all(space.decisions)]
    assert feasible == [sum(digits(architecture)) <= 3 for architecture in enumerate_all(space.decisions)]


def test_a_model_that_fails_is_not_called_not_additive() -> None:
    class Broken(Product):
        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": float("nan")}

    with pytest.raises(SpaceError, match="returns nan"):
        TabulatedCost(Broken(), ToySpace()).extremes()


def test_a_network_that_does_not_run_violates_limits_and_is_not_an_extreme() -> None:
    class Device(Product):
        """Networks without a single first option do not run."""

        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": float(sum(digits(architecture))) if 0 in digits(architecture) else math.inf}

        integral = False

    space = ToySpace(blocks=3, options=3)
    cost = TabulatedCost(Device(), space)
    assert not cost.additive and "returns inf" in cost.reason
    extremes = cost.extremes()
    assert (extremes.smallest_value, extremes.largest_value) == (0, 4)
    limit = parse_constraint("params", "<= 1000")
    problem = Problem({"accuracy": "maximize"}, [limit], {"params": cost})
    feasible = [problem.feasible(architecture) for architecture in enumerate_all(space.decisions)]
    assert feasible == [0 in digits(architecture) for architecture in enumerate_all(space.decisions)]


def test_exact_extremes_do_not_start_a_search() -> None:
    asked: list[Architecture] = []

    class Counted(Product):
        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            asked.append(architecture)
            return super().breakdown(architecture)

    large = TabulatedCost(Counted(), ToySpace(blocks=12, options=4))
    assert large.exact_extremes() is None
    looked = len(asked)
    large.extremes()
    assert len(asked) > looked
    small = TabulatedCost(Product(), ToySpace(blocks=3, options=3))
    assert small.exact_extremes() == small.extremes()
