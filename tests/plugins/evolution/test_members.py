"""Selection: against `Problem.rank`, and non-dominated sorting and crowding against their definitions."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st

from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial
from automl_nas_evolution.members import Member, crowding, fittest, fronts

ANY = Architecture({"d": 0})
# Few different values, so that ties and equal points are common.
values = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0])


def members(points: list[tuple[float, ...]]) -> list[Member]:
    return [Member(number, ANY, point, 0.0, math.inf) for number, point in enumerate(points)]


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True)) and any(
        a > b for a, b in zip(first, second, strict=True)
    )


@given(st.integers(1, 3).flatmap(lambda n: st.lists(st.tuples(*[values] * n), max_size=12)))
def test_fronts_are_what_remains_undominated_layer_by_layer(points: list[tuple[float, ...]]) -> None:
    rest = set(range(len(points)))
    expected = []
    while rest:
        layer = {i for i in rest if not any(dominates(points[j], points[i]) for j in rest)}
        expected.append(layer)
        rest -= layer
    assert [{member.number for member in front} for front in fronts(members(points))] == expected


def test_crowding_by_hand() -> None:
    # Deb et al. 2002, section III-B: (0, 10), (1, 6), (4, 5), (10, 0), ranges 10 and 10.
    # Second point: (4 - 0) / 10 + (10 - 5) / 10; third: (10 - 1) / 10 + (6 - 0) / 10.
    distances = crowding([(0, 10), (1, 6), (4, 5), (10, 0)])
    assert distances[0] == distances[3] == math.inf
    # Sums of two quotients: an error of a few units in the last place at most.
    assert math.isclose(distances[1], 0.9, rel_tol=1e-12)
    assert math.isclose(distances[2], 1.5, rel_tol=1e-12)


def test_an_objective_without_spread_tells_nothing() -> None:
    assert crowding([(1, 0), (1, 4), (1, 8)]) == [math.inf, 1.0, math.inf]
    assert crowding([(1, 2)] * 3) == [0.0] * 3


def test_several_objectives_take_the_first_front_then_the_loneliest() -> None:
    points = [(0.0, 10.0), (1.0, 6.0), (4.0, 5.0), (10.0, 0.0), (0.0, 0.0)]
    assert [member.number for member in fittest(members(points), 5)] == [0, 3, 2, 1, 4]


trials = st.builds(
    lambda accuracy, missed, state, fidelity: (accuracy, missed, state, fidelity),
    st.sampled_from([0.1, 0.2, 0.3, math.nan]),
    st.sampled_from([-1.0, 0.0, 0.5]),
    st.sampled_from(list(State)),
    st.sampled_from([None, 1.0, 2.0]),
)


@settings(deadline=None)
@given(st.lists(trials, max_size=15), st.integers(1, 5), st.sampled_from(["maximize", "minimize"]), st.integers(0, 15))
def test_one_objective_agrees_with_the_problem(
    drawn: list[tuple[float, float, State, float | None]], count: int, way: str, split: int
) -> None:
    problem = Problem({"accuracy": way})  # type: ignore[dict-item]
    all_trials = [
        Trial(number, ANY, {"accuracy": accuracy}, violations={"c": missed}, state=state, fidelity=fidelity)
        for number, (accuracy, missed, state, fidelity) in enumerate(drawn)
    ]
    # The problem ranks a NaN last, selection leaves it out.
    usable = [trial for trial in all_trials if not math.isnan(trial.metrics["accuracy"])]
    expected = [trial.number for trial in problem.rank(usable)][:count]
    candidates = [member for trial in all_trials if (member := Member.of(problem, trial)) is not None]
    feasible = [member.number for member in fittest(candidates, count) if member.violation == 0]
    assert feasible == expected
    # Selecting from what was selected before and what is new is selecting from all.
    again = fittest(fittest(candidates[:split], count) + candidates[split:], count)
    assert [member.number for member in again if member.violation == 0] == expected


def test_infeasible_members_follow_by_their_gap() -> None:
    pool = [Member(n, ANY, (float(n),), violation, math.inf) for n, violation in enumerate([0.5, 0.0, 0.1, 0.0])]
    assert [member.number for member in fittest(pool, 4)] == [3, 1, 2, 0]


def test_a_member_survives_being_stored() -> None:
    member = Member(3, Architecture({"a": 1, "b": (1, 2)}), (0.5, -2.0), 0.25, math.inf)
    assert Member.load(member.state()) == member
