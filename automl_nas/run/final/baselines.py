"""Networks to compare what was found with: the largest, random ones, random ones of the same cost."""

from __future__ import annotations

import logging
import math
import random

from automl_nas.evaluation.costs.table import CostTable
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import neighbours
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream, stream_seed

_log = logging.getLogger(__name__)

TRIES = 10_000
"""How many architectures are drawn to find a feasible one for a baseline."""

STARTS = 16
"""From how many feasible architectures the dearest one is climbed to, where it cannot be computed."""

STEPS = 2_000
"""How many changes are tried where a cost has no table: each counts a network anew."""

MEASUREMENTS = 30
"""How many networks are looked at where a cost is measured, which takes about a second each."""

PATIENCE = 100
"""After so many changes in a row that lead nowhere, another random network is begun from."""


def baseline(
    role: str,
    space: SearchSpace,
    problem: Problem,
    found: Architecture,
    *,
    within: float,
    position: int,
    seed: int,
) -> Architecture | None:
    """Return the network of a baseline; None, with a warning, where none is found.

    Args:
        role: ``largest``, ``random`` or ``equal``.
        space: that was searched.
        problem: of the search.
        found: the best network of the search.
        within: how much the cost of an ``equal`` network may differ.
        position: of the baseline among the others: each draws its own.
        seed: of the stage.
    """
    own = stream_seed(seed, "baseline", position)
    if role == "largest":
        architecture = largest_feasible(space, problem, seed)
    elif role == "random":
        architecture = random_feasible(space, problem, own)
    else:
        return equal_cost(space, problem, found, within, own)
    if architecture is None:
        _log.warning("the baseline '%s' is left out: no feasible network was found in %d draws", role, TRIES)
    return architecture


def equal_cost(
    space: SearchSpace, problem: Problem, found: Architecture, within: float, seed: int
) -> Architecture | None:
    """Return a feasible random network of the cost of another one, and not the same one.

    Where the cost has a table it is drawn uniformly from all of that cost; otherwise a random network is changed at
    random, by one step of one decision at a time, as long as that brings the cost nearer.

    Args:
        space: where it is drawn.
        problem: the cost is the one that is limited, or the first one.
        found: the network.
        within: how much the cost may differ, relative to that of the network.
        seed: of the draws.

    Returns:
        None, with a warning that says how near the nearest one came, where none is found.
    """
    name = primary_cost(problem)
    if name is None:
        _log.warning("the baseline 'equal' is left out: the problem has no cost")
        return None
    target = problem.costs(found)[name]
    rng, taken = stream(seed, "equal"), space.canonical(found)

    def gap(architecture: Architecture) -> float:
        cost = problem.costs(architecture)[name]
        return abs(cost - target) / (abs(target) or 1.0) if math.isfinite(cost) else math.inf

    model = problem.cost_models[name]
    table = model.table if isinstance(model, TabulatedCost) else None
    nearest = math.inf
    if table is not None:
        for _ in range(TRIES):
            here = table.sample(rng, target - within * abs(target), target + within * abs(target))
            if problem.feasible(here) and space.canonical(here) != taken:
                return here
    else:
        here, missing, idle = space.sample(rng), math.inf, 0
        for _ in range(_patience(problem, STEPS)):
            other = _step(here, space, rng) if missing < math.inf else here
            if (found_gap := gap(other)) < missing:
                here, missing, idle = other, found_gap, 0
            else:
                idle += 1
            if problem.feasible(here) and space.canonical(here) != taken:
                nearest = min(nearest, missing)
                if missing <= within:
                    return here
            if idle == PATIENCE or missing <= within:
                here, missing, idle = space.sample(rng), math.inf, 0
    said = (
        f"the nearest network that is feasible differs by {nearest:.1%} in {name}"
        if nearest < math.inf
        else (f"no other feasible network has that {name}")
    )
    _log.warning("the baseline 'equal' is left out: %s", said)
    return None


def _step(architecture: Architecture, space: SearchSpace, rng: random.Random) -> Architecture:
    names = list(space.decisions)
    while True:
        name = names[rng.randrange(len(names))]
        near = list(space.decisions[name].neighbours(architecture[name]))
        if near:
            return architecture.replaced({name: near[rng.randrange(len(near))]})
        names.remove(name)


def primary_cost(problem: Problem) -> str | None:
    """Return the cost that is limited, the first of several; the first cost where none is."""
    limited = [c.metric for c in problem.constraints if c.metric in problem.cost_models]
    return limited[0] if limited else next(iter(problem.cost_models), None)


def random_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Draw a feasible architecture uniformly: from the table of the one limited cost, else by rejection.

    Returns:
        None if rejection finds none in `TRIES` draws.
    """
    rng = stream(seed, "feasible")
    limited = [c for c in problem.constraints if c.metric in problem.cost_models]
    model = problem.cost_models[limited[0].metric] if len(limited) == 1 else None
    if isinstance(model, TabulatedCost) and model.table is not None:
        low, high = limited[0].low, limited[0].high
        return model.table.sample(rng, low, high) if model.table.count(low, high) else None
    for _ in range(_patience(problem, TRIES)):
        architecture = space.sample(rng)
        if problem.feasible(architecture):
            return architecture
    return None


def largest_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Return the dearest feasible architecture, in the cost that is limited (the first cost, where none is).

    With one limited cost that has a table it is exact; with several it is climbed to from `STARTS` feasible
    architectures. Where a cost has no table, random steps upwards are taken, at most `STEPS`. None if there is no cost,
    or no feasible start.
    """
    limited = [c for c in problem.constraints if c.metric in problem.cost_models]
    name = primary_cost(problem)
    if name is None:
        return None
    model = problem.cost_models[name]
    if isinstance(model, TabulatedCost) and len(limited) <= 1:
        if not limited and not model.noisy:
            return model.extremes().largest
        if model.table is not None:
            return most_expensive_within(model.table, limited[0].low, limited[0].high, seed)
    if not all(isinstance(m, TabulatedCost) and m.additive for m in problem.cost_models.values()):
        return _random_ascent(space, problem, name, seed)
    starts = [random_feasible(space, problem, stream_seed(seed, "largest", number)) for number in range(STARTS)]
    peaks = [_climb(start, space, problem, name) for start in starts if start is not None]
    return max(peaks, key=lambda a: (problem.costs(a)[name], a.key), default=None)


def most_expensive_within(table: CostTable, low: float, high: float, seed: int) -> Architecture | None:
    """Return an architecture with the largest cost in an interval (drawn, where several do); None if it is empty."""
    high = min(high, table.largest[1])
    floor = max(low, table.smallest[1])
    if floor > high or not table.count(floor, high):
        return None
    # Bisection on the counts: `floor` always has architectures above it, `ceiling` none. It ends between two
    # neighbouring floats, so on the largest cost itself.
    ceiling = math.nextafter(high, math.inf)
    while (middle := (floor + ceiling) / 2) not in (floor, ceiling):
        if table.count(middle, high):
            floor = middle
        else:
            ceiling = middle
    return table.sample(stream(seed, "dearest"), floor, high)


def _climb(start: Architecture, space: SearchSpace, problem: Problem, name: str) -> Architecture:
    here = start
    while True:
        better = [a for a in neighbours(here, space.decisions) if problem.feasible(a)]
        best = max(better, key=lambda a: (problem.costs(a)[name], a.key), default=here)
        if problem.costs(best)[name] <= problem.costs(here)[name]:
            return here
        here = best


def _random_ascent(space: SearchSpace, problem: Problem, name: str, seed: int) -> Architecture | None:
    best: Architecture | None = None
    here: Architecture | None = None
    rng, idle = stream(seed, "wander"), 0
    for number in range(_patience(problem, STEPS)):
        if here is None:
            here, idle = random_feasible(space, problem, stream_seed(seed, "largest", number)), 0
            if here is None:
                return best
        other = _step(here, space, rng)
        if problem.feasible(other) and problem.costs(other)[name] > problem.costs(here)[name]:
            here, idle = other, 0
        else:
            idle += 1
        if best is None or problem.costs(here)[name] > problem.costs(best)[name]:
            best = here
        if idle == PATIENCE:
            here = None
    return best


def _patience(problem: Problem, count: int) -> int:
    """Return how many networks are looked at: fewer where that means to measure each."""
    return min(count, MEASUREMENTS) if any(model.noisy for model in problem.cost_models.values()) else count
