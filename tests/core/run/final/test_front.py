"""The networks of a Pareto front that are delivered: they are spread, by the bound of the farthest-point method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from automl_nas.run.final.dominance import dominating
from automl_nas.run.final.report import FinalNetwork
from automl_nas.space import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy import Problem, Trial, spread_front
from automl_nas.testing import ToySpace

OBJECTIVES: dict[str, Any] = {"accuracy": "maximize", "flops": "minimize"}


def space() -> SearchSpace:
    return ToySpace(blocks=1, options=40)


def trials(accuracies: Sequence[float], flops: Sequence[float]) -> list[Trial]:
    pairs = zip(accuracies, flops, strict=True)
    return [Trial(n, Architecture({"d0": n}), {"accuracy": a}, {"flops": f}) for n, (a, f) in enumerate(pairs)]


def radius(points: NDArray[np.float64], chosen: Sequence[int]) -> float:
    """Return the largest distance of a point to the nearest chosen one."""
    distances = [np.linalg.norm(points - points[place], axis=1) for place in chosen]
    return float(np.min(distances, axis=0).max())


def test_the_best_in_each_objective_comes_first_and_fewer_are_a_prefix_of_more() -> None:
    rng = np.random.default_rng(5)
    accuracies = np.sort(rng.uniform(size=30))
    made = trials(accuracies.tolist(), np.sort(rng.uniform(1e6, 9e6, 30)).tolist())
    many = spread_front(Problem(OBJECTIVES), space(), made, 9)
    assert [trial.number for trial in many[:2]] == [29, 0]
    assert len({trial.number for trial in many}) == 9
    for count in range(1, 9):
        assert spread_front(Problem(OBJECTIVES), space(), made, count) == many[:count]
    assert len(spread_front(Problem(OBJECTIVES), space(), made, 40)) == 30


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_of_as_many_networks_covers_the_front_twice_as_well(seed: int) -> None:
    """Gonzalez (1985): the radius is at most twice the smallest one, which all choices are tried for.

    The proof needs distances between the chosen that are no smaller than the radius. The two ends of a front of two
    objectives are farther apart (the root of 2) than any other pair of points.
    """
    rng = np.random.default_rng(seed)
    accuracies, flops = np.sort(rng.uniform(size=14)), np.sort(rng.uniform(size=14) ** 3)
    made = trials(accuracies.tolist(), flops.tolist())
    points = np.stack([(v - v.min()) / (v.max() - v.min()) for v in (accuracies, flops)], axis=1)
    for count in (2, 3, 5):
        chosen = [trial.number for trial in spread_front(Problem(OBJECTIVES), space(), made, count)]
        best = min(radius(points, each) for each in combinations(range(14), count))
        assert radius(points, chosen) <= 2 * best


def test_dominated_infeasible_and_unmeasured_trials_are_left_out() -> None:
    made = trials([0.9, 0.8, 0.95, 0.7], [5, 6, float("nan"), 1])
    made.append(Trial(4, Architecture({"d0": 4}), {"accuracy": 0.99}, {"flops": 1}, {"flops <= 0": 1.0}))
    assert [trial.number for trial in spread_front(Problem(OBJECTIVES), space(), made, 9)] == [0, 3]


def test_equal_networks_are_taken_once() -> None:
    class Alike(ToySpace):
        def canonical(self, architecture: Architecture) -> Architecture:
            return architecture.replace({"d0": 0})

    made = trials([0.5, 0.6], [1.0, 2.0])
    assert [trial.number for trial in spread_front(Problem(OBJECTIVES), Alike(), made, 9)] == [1]


def network(accuracy: float, flops: float) -> FinalNetwork:
    return FinalNetwork("found", 0, 0, Architecture({"d0": 0}), {"flops": flops}, test={"accuracy": accuracy})


def test_what_remains_of_the_front_after_the_training() -> None:
    networks = [network(0.9, 5), network(0.9, 7), network(0.5, 1), network(0.95, 9), network(0.9, 5)]
    assert dominating(OBJECTIVES, networks, [0, 1, 2, 3]) == {1: 0}
    assert dominating(OBJECTIVES, networks, [0, 4]) == {}  # equal ones do not dominate each other
    objectives: dict[str, Any] = {"score_of_the_evaluator": "maximize", "flops": "minimize"}
    assert dominating(objectives, networks, [0, 2]) == {0: 2}


@pytest.mark.parametrize("seed", range(20))
def test_dominated_networks_are_those_of_the_definition(seed: int) -> None:
    """Written out: at least as good in every objective that is known of any network, and better in one.

    Small whole numbers, so that ties are frequent; values are missing at random, and of one objective always.
    """
    rng = np.random.default_rng(seed)
    objectives: dict[str, Any] = {"accuracy": "maximize", "loss": "minimize", "flops": "minimize", "proxy": "maximize"}
    networks = []
    for _ in range(9):
        test = {name: float(rng.integers(3)) for name in ("accuracy", "loss") if rng.random() > 0.2}
        cost = float(rng.integers(3)) if rng.random() > 0.1 else float("nan")
        networks.append(FinalNetwork("found", 0, 0, Architecture({"d0": 0}), {"flops": cost}, test=test or None))
    positions = [int(position) for position in rng.permutation(9)[:6]]

    def value(position: int, name: str) -> float | None:
        found = networks[position].costs.get(name, (networks[position].test or {}).get(name))
        return None if found is None or np.isnan(found) else found

    known = [name for name in objectives if any(value(position, name) is not None for position in positions)]

    def dominates(one: int, other: int) -> bool:
        better = False
        for name in known:
            a, b = value(one, name), value(other, name)
            if a is None or b is None or ((a < b) if objectives[name] == "maximize" else (a > b)):
                return False
            better = better or a != b
        return better

    expected = {
        position: next(other for other in positions if dominates(other, position))
        for position in positions
        if any(dominates(other, position) for other in positions)
    }
    assert dominating(objectives, networks, positions) == expected
