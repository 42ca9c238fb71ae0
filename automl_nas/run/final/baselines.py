"""Baselines for the delivered network: the largest feasible network, random ones, random ones of the same cost."""

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
"""Maximum number of draws to find a feasible architecture for a baseline."""

STARTS = 16
"""Number of feasible architectures from which hill climbing starts, if the largest cost cannot be computed."""

STEPS = 2_000
"""Maximum number of changes to try for a cost without a table, which is computed from a network each time."""

MEASUREMENTS = 30
"""Maximum number of networks to try for a cost that is measured; a measurement takes about a second."""

PATIENCE = 100
"""Consecutive changes without an improvement after which the walk restarts from another random network."""


def baseline(
    role: str,
    space: SearchSpace,
    problem: Problem,
    best: Architecture,
    *,
    within: float,
    position: int,
    seed: int,
) -> Architecture | None:
    """Return the architecture of a baseline; None, with a warning, if no feasible one is found.

    Args:
        role: ``largest``, ``random`` or ``equal``.
        space: of the search.
        problem: of the search.
        best: the best architecture of the search.
        within: for ``equal``, the maximum difference in cost, relative to that of ``best``.
        position: of the baseline in the settings; baselines draw from different streams.
        seed: of the stage.
    """
    own_seed = stream_seed(seed, "baseline", position)
    if role == "largest":
        architecture = largest_feasible(space, problem, seed)
    elif role == "random":
        architecture = random_feasible(space, problem, own_seed)
    else:
        return equal_cost(space, problem, best, within, own_seed)
    if architecture is None:
        _log.warning("the baseline '%s' is left out: no feasible network was found in %d draws", role, TRIES)
    return architecture


def equal_cost(
    space: SearchSpace, problem: Problem, reference: Architecture, within: float, seed: int
) -> Architecture | None:
    """Return another feasible architecture of about the same cost as a reference.

    For a cost with a table, the architecture is drawn uniformly from all architectures of that cost. Otherwise a random
    walk changes one decision by one step at a time, and accepts changes that bring the cost nearer to the reference.

    Args:
        space: of the search.
        problem: the cost that is compared is the first one with a limit; without limits, the first one.
        reference: the architecture whose cost is matched.
        within: maximum difference in cost, relative to that of the reference.
        seed: of the draws.

    Returns:
        The architecture; None if none is found, with a warning that contains the smallest difference.
    """
    name = primary_cost(problem)
    if name is None:
        _log.warning("the baseline 'equal' is left out: the problem has no cost")
        return None
    target = problem.costs(reference)[name]
    rng, excluded = stream(seed, "equal"), space.canonical(reference)

    def gap(architecture: Architecture) -> float:
        cost = problem.costs(architecture)[name]
        return abs(cost - target) / (abs(target) or 1.0) if math.isfinite(cost) else math.inf

    model = problem.cost_models[name]
    table = model.table if isinstance(model, TabulatedCost) else None
    nearest = math.inf
    if table is not None:
        for _ in range(TRIES):
            drawn = table.sample(rng, target - within * abs(target), target + within * abs(target))
            if problem.feasible(drawn) and space.canonical(drawn) != excluded:
                return drawn
    else:
        current, current_gap, idle = space.sample(rng), math.inf, 0
        for _ in range(_max_tries(problem, STEPS)):
            neighbour = _step(current, space, rng) if current_gap < math.inf else current
            if (neighbour_gap := gap(neighbour)) < current_gap:
                current, current_gap, idle = neighbour, neighbour_gap, 0
            else:
                idle += 1
            if problem.feasible(current) and space.canonical(current) != excluded:
                nearest = min(nearest, current_gap)
                if current_gap <= within:
                    return current
            if idle == PATIENCE or current_gap <= within:
                current, current_gap, idle = space.sample(rng), math.inf, 0
    reason = (
        f"the nearest feasible network differs by {nearest:.1%} in {name}"
        if nearest < math.inf
        else f"no other feasible network has that {name}"
    )
    _log.warning("the baseline 'equal' is left out: %s", reason)
    return None


def _step(architecture: Architecture, space: SearchSpace, rng: random.Random) -> Architecture:
    """Return a neighbour of an architecture: a random decision takes a random neighbouring value."""
    names = list(space.decisions)
    while True:
        name = names[rng.randrange(len(names))]
        values = list(space.decisions[name].neighbours(architecture[name]))
        if values:
            return architecture.replace({name: values[rng.randrange(len(values))]})
        names.remove(name)


def primary_cost(problem: Problem) -> str | None:
    """Return the first cost with a limit; without limits, the first cost; None if the problem has no costs."""
    limited = [c.metric for c in problem.constraints if c.metric in problem.cost_models]
    return limited[0] if limited else next(iter(problem.cost_models), None)


def random_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Draw a feasible architecture uniformly: from the table of the only limited cost, else by rejection.

    Returns:
        The architecture; None if `TRIES` draws give no feasible one, or no architecture is feasible.
    """
    rng = stream(seed, "feasible")
    limited = [c for c in problem.constraints if c.metric in problem.cost_models]
    model = problem.cost_models[limited[0].metric] if len(limited) == 1 else None
    if isinstance(model, TabulatedCost) and model.table is not None:
        low, high = limited[0].low, limited[0].high
        return model.table.sample(rng, low, high) if model.table.count(low, high) else None
    for _ in range(_max_tries(problem, TRIES)):
        architecture = space.sample(rng)
        if problem.feasible(architecture):
            return architecture
    return None


def largest_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Return the feasible architecture with the largest cost: the first cost with a limit, or the first cost.

    With one limited cost that has a table, the result is exact. With several, it is the best result of hill climbing
    from `STARTS` feasible architectures. If a cost has no table, it is the best of a random ascent of `STEPS` steps.

    Returns:
        The architecture; None if the problem has no costs, or no feasible architecture is found to start from.
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
    """Return an architecture with the largest cost in an interval, drawn if there are several.

    Args:
        table: of the cost.
        low: lower end of the interval.
        high: upper end of the interval.
        seed: of the draw.

    Returns:
        The architecture; None if no architecture has a cost in the interval.
    """
    high = min(high, table.largest[1])
    floor = max(low, table.smallest[1])
    if floor > high or not table.count(floor, high):
        return None
    # Bisection: some architecture costs at least `floor`, and no architecture costs `ceiling` or more. It ends with
    # two neighbouring floats, so `floor` is the largest cost.
    ceiling = math.nextafter(high, math.inf)
    while (middle := (floor + ceiling) / 2) not in (floor, ceiling):
        if table.count(middle, high):
            floor = middle
        else:
            ceiling = middle
    return table.sample(stream(seed, "dearest"), floor, high)


def _climb(start: Architecture, space: SearchSpace, problem: Problem, name: str) -> Architecture:
    """Return the local maximum of a cost that hill climbing over feasible neighbours reaches from an architecture."""
    current = start
    while True:
        feasible = [a for a in neighbours(current, space.decisions) if problem.feasible(a)]
        best = max(feasible, key=lambda a: (problem.costs(a)[name], a.key), default=current)
        if problem.costs(best)[name] <= problem.costs(current)[name]:
            return current
        current = best


def _random_ascent(space: SearchSpace, problem: Problem, name: str, seed: int) -> Architecture | None:
    """Return the feasible architecture of the largest cost that random steps reach; None without a start."""
    best: Architecture | None = None
    current: Architecture | None = None
    rng, idle = stream(seed, "wander"), 0
    for number in range(_max_tries(problem, STEPS)):
        if current is None:
            current, idle = random_feasible(space, problem, stream_seed(seed, "largest", number)), 0
            if current is None:
                return best
        neighbour = _step(current, space, rng)
        if problem.feasible(neighbour) and problem.costs(neighbour)[name] > problem.costs(current)[name]:
            current, idle = neighbour, 0
        else:
            idle += 1
        if best is None or problem.costs(current)[name] > problem.costs(best)[name]:
            best = current
        if idle == PATIENCE:
            current = None
    return best


def _max_tries(problem: Problem, count: int) -> int:
    """Return the maximum number of networks to try: at most `MEASUREMENTS` if a cost is measured on each."""
    return min(count, MEASUREMENTS) if any(model.noisy for model in problem.cost_models.values()) else count
