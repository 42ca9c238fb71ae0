"""A uniform draw among what is feasible and new, for when a sampler proposes nothing new."""

from __future__ import annotations

import math
import random
from collections.abc import Container, Iterable

from automl_nas.errors import InfeasibleError
from automl_nas.search.problem import Problem
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all, neighbours, sample
from automl_nas.space.space import SearchSpace

# A space of at most so many raw assignments is counted through when draws fail.
_COUNTABLE = 1 << 15


def draw_new(
    space: SearchSpace, problem: Problem, rng: random.Random, taken: Container[Architecture], draws: int
) -> Architecture | None:
    """Return an architecture that meets the constraints on costs and whose canonical form is not taken.

    Up to ``draws`` uniform draws are rejected, so what they find is exactly uniform. After that a small space is
    counted through, which is uniform too. In a large one the last draw walks to the neighbour with the smallest sum of
    violations until it is feasible; that is not uniform, and may find nothing though something is left.

    Args:
        space: where to draw.
        problem: whose constraints on costs must be met.
        rng: a generator of a named stream.
        taken: canonical forms that are known.
        draws: how many draws are rejected.

    Returns:
        None if nothing was found.

    Raises:
        InfeasibleError: nothing feasible was found, taken or not; the message says by how much the nearest missed.
    """
    met, missed = False, None
    for _ in range(draws):
        drawn = sample(space.decisions, rng)
        if not problem.feasible(drawn):
            missed = drawn
        elif space.canonical(drawn) not in taken:
            return drawn
        else:
            met = True
    if space.size <= _COUNTABLE:
        # One raw assignment for each network, so that each is as likely.
        free: dict[Architecture, Architecture] = {}
        for item in enumerate_all(space.decisions):
            if problem.feasible(item):
                met = True
                if (key := space.canonical(item)) not in taken:
                    free.setdefault(key, item)
        if free:
            return list(free.values())[rng.randrange(len(free))]
        if not met:
            raise _infeasible(
                problem, enumerate_all(space.decisions), f"of the {space.size} architectures in the space"
            )
        return None
    if missed is None:
        return None
    found = _descend(space, problem, missed)
    if problem.feasible(found):
        return None if space.canonical(found) in taken else found
    if not met:
        raise _infeasible(problem, [found], f"of {draws} architectures drawn")
    return None


def _descend(space: SearchSpace, problem: Problem, start: Architecture) -> Architecture:
    here, gap = start, _gap(problem, start)
    while gap > 0:
        best = min(neighbours(here, space.decisions), key=lambda item: _gap(problem, item), default=here)
        if (least := _gap(problem, best)) >= gap:
            break
        here, gap = best, least
    return here


def _gap(problem: Problem, architecture: Architecture) -> float:
    return sum(max(0.0, missed) for missed in problem.violations(architecture).values())


def _infeasible(problem: Problem, missed: Iterable[Architecture], which: str) -> InfeasibleError:
    nearest = min(missed, key=lambda item: _gap(problem, item))
    gaps = {text: gap for text, gap in problem.violations(nearest).items() if gap > 0}
    named = ", ".join(
        f"'{text}' by {gap:.3g} of its limit" if math.isfinite(gap) else f"'{text}', whose value is not a number"
        for text, gap in gaps.items()
    )
    return InfeasibleError(
        f"none {which} meets the constraints; the nearest misses {named}: {nearest.key}. "
        "Relax the constraint or widen the space"
    )
