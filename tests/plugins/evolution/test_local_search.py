"""Local search: every climb ends in a local optimum, checked against all neighbours."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest

from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import neighbours
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Trial
from automl_nas.streams import stream_seed
from automl_nas.testing.services import finished
from automl_nas.testing.toys import ToyCost, ToySpace
from automl_nas_evolution.local_search import LocalSearch

SPACE = ToySpace(blocks=5, options=3)


def rugged(architecture: Architecture) -> float:
    """A landscape without any structure, so with many local optima."""
    return stream_seed(0, architecture.key) / 2**63


def climb(improvement: Literal["steepest", "first"], problem: Problem, count: int) -> list[Trial]:
    search = LocalSearch(SPACE, problem, seed=0, improvement=improvement)
    trials: list[Trial] = []
    while len(trials) < count:
        (proposal,) = search.ask(1)
        trials.append(finished(problem, len(trials), proposal, {"accuracy": rugged(proposal.architecture)}))
        search.tell(trials[-1:])
    return trials


def limited(limit: int) -> Problem:
    return Problem(
        {"accuracy": "maximize"}, [parse_constraint("toy_cost", f"<= {limit}")], {"toy_cost": ToyCost(SPACE)}
    )


def around(architecture: Architecture, problem: Problem) -> list[Architecture]:
    return [item for item in neighbours(architecture, SPACE.decisions) if problem.feasible(item)]


@pytest.mark.parametrize("limit", [4, 10])
def test_steepest_ascent_follows_its_definition(limit: int) -> None:
    problem = limited(limit)
    evaluated: set[Architecture] = set()
    centre: Architecture | None = None
    starts = 0
    for trial in climb("steepest", problem, 60):
        while centre is not None and all(item in evaluated for item in around(centre, problem)):
            best = max(around(centre, problem), key=rugged)
            centre = best if rugged(best) > rugged(centre) else None
        if centre is None:
            assert trial.info["origin"] == "start"
            centre = trial.architecture
            starts += 1
            assert trial.info["climb"] == starts
        else:
            assert trial.architecture in around(centre, problem)
        evaluated.add(trial.architecture)
    assert starts >= 2


@pytest.mark.parametrize("improvement", ["steepest", "first"])
def test_it_starts_again_only_at_a_local_optimum(improvement: Literal["steepest", "first"]) -> None:
    problem = limited(6)
    trials = climb(improvement, problem, 100)
    starts = [trial.number for trial in trials if trial.info["origin"] == "start"]
    assert len(starts) >= 3
    for begun, next_begun in itertools.pairwise(starts):
        evaluated = {trial.architecture for trial in trials[:next_begun]}
        peaks = {
            item
            for item in evaluated
            if all(o in evaluated and rugged(o) < rugged(item) for o in around(item, problem))
        }
        # One of the peaks that were complete by then can be reached from the start by rising all the way.
        reached, rising = set(), [trials[begun].architecture]
        while rising:
            place = rising.pop()
            reached.add(place)
            rising += [o for o in around(place, problem) if o in evaluated - reached and rugged(o) > rugged(place)]
        assert peaks & reached


def test_known_neighbours_are_not_evaluated_again() -> None:
    problem = Problem({"accuracy": "maximize"})
    search = LocalSearch(SPACE, problem, seed=0)
    (start,) = search.ask(1)
    near = list(neighbours(start.architecture, SPACE.decisions))
    # All but one neighbour were evaluated before: only that one is left to evaluate.
    search.tell([Trial(100 + n, item, {"accuracy": 0.0}) for n, item in enumerate(near[1:])])
    search.tell([Trial(0, start.architecture, {"accuracy": 1.0})])
    assert [proposal.architecture for proposal in search.ask(5)] == [near[0]]


def test_the_first_better_neighbour_is_moved_to_at_once() -> None:
    problem = Problem({"accuracy": "maximize"})
    search = LocalSearch(SPACE, problem, seed=0, improvement="first")
    (start,) = search.ask(1)
    search.tell([Trial(0, start.architecture, {"accuracy": 0.0})])
    (worse,) = search.ask(1)
    search.tell([Trial(1, worse.architecture, {"accuracy": -1.0})])
    (better,) = search.ask(1)
    search.tell([Trial(2, better.architecture, {"accuracy": 1.0})])
    assert {proposal.architecture for proposal in search.ask(4)} <= set(around(better.architecture, problem))
