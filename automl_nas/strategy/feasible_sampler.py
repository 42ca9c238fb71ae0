"""Random feasible architectures, also where few are feasible or few are left."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Container, Iterable
from typing import final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space.architecture import Architecture
from automl_nas.space.integer_codec import IntegerCodec
from automl_nas.space.operators import enumerate_all, neighbours
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem

# A space of at most so many raw assignments is counted through when drawing fails: a fraction of a second, once.
_COUNTABLE = 1 << 15
# From so many different draws a way to feasibility is tried; in spaces with additive costs the first one succeeds.
_REPAIRS = 8


@final
class FeasibleSampler:
    """Draws architectures that meet the constraints on costs and are not taken.

    Up to ``attempts`` uniform draws are rejected; while that succeeds, the result is exactly uniform over what is
    feasible and free. After that, a small space is counted through, which is uniform too and finds the last one; in a
    large one an infeasible draw is repaired by the changes of one decision that lower the sum of violations most, and
    free architectures are looked for around it. That is not uniform, and in a large space it may miss some.

    Args:
        space: where to draw.
        problem: whose constraints on costs must be met.
        attempts: how many uniform draws are rejected at most; also how many architectures are looked at around a
            repaired one.

    Attributes:
        packing: the numbers of architectures in ``refused``.
    """

    def __init__(self, space: SearchSpace, problem: Problem, attempts: int) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts must be at least 1, not {attempts}", path="attempts")
        self._space, self._problem, self._attempts = space, problem, attempts
        self._decisions = space.decisions
        self.packing = IntegerCodec(space.decisions)
        self._all: list[Architecture] | None = None

    def draw(
        self, rng: random.Random, taken: Container[Architecture], refused: set[int] | None = None
    ) -> Architecture | None:
        """Return a feasible architecture whose canonical form is not taken; None if none is found.

        Args:
            rng: a generator.
            taken: canonical forms.
            refused: numbers of architectures that are known to be infeasible or taken; those that are found to be are
                added. It makes no difference but in time.

        Raises:
            InfeasibleError: nothing feasible was found, taken or not; the message says by how much the nearest missed.
        """
        sample, unpack = self.packing.sample, self.packing.unpack
        refused = set() if refused is None else refused
        drawn: list[int] = []
        for _ in range(self._attempts):
            code = sample(rng)
            if code not in refused:
                candidate = unpack(code)
                if self._problem.feasible(candidate) and self._space.canonical(candidate) not in taken:
                    return candidate
                refused.add(code)
            drawn.append(code)
        if self._space.size <= _COUNTABLE:
            free = [item for item in self._feasible() if self._space.canonical(item) not in taken]
            return free[rng.randrange(len(free))] if free else None
        missed: list[Architecture] = []
        infeasible = [item for item in map(unpack, drawn) if not self._problem.feasible(item)]
        met = len(infeasible) < len(drawn)
        for start in infeasible[:_REPAIRS]:
            found = self._repair(start)
            if not self._problem.feasible(found):
                missed.append(found)
                continue
            met = True
            if (free_one := self._around(found, rng, taken)) is not None:
                return free_one
        if not met:
            raise self._infeasible(missed, self._attempts, "tried")
        return None

    def _feasible(self) -> list[Architecture]:
        if self._all is None:
            # One raw assignment for each network, the first in the order of counting.
            distinct: dict[Architecture, Architecture] = {}
            for item in enumerate_all(self._decisions):
                if self._problem.feasible(item):
                    distinct.setdefault(self._space.canonical(item), item)
            self._all = list(distinct.values())
        if not self._all:
            raise self._infeasible(enumerate_all(self._decisions), self._space.size, "in the space")
        return self._all

    def _repair(self, start: Architecture) -> Architecture:
        here, gap = start, self._gap(start)
        while gap > 0:
            best, least = here, gap
            for other in neighbours(here, self._decisions):
                if (missing := self._gap(other)) < least:
                    best, least = other, missing
            if best is here:
                break
            here, gap = best, least
        return here

    def _around(self, start: Architecture, rng: random.Random, taken: Container[Architecture]) -> Architecture | None:
        # Breadth first over feasible architectures: the nearest free one is found first.
        met, queue = {start}, deque([start])
        while queue:
            here = queue.popleft()
            if self._space.canonical(here) not in taken:
                return here
            near = list(neighbours(here, self._decisions))
            rng.shuffle(near)
            for other in near:
                if len(met) < self._attempts and other not in met and self._problem.feasible(other):
                    met.add(other)
                    queue.append(other)
        return None

    def _gap(self, architecture: Architecture) -> float:
        return sum(max(0.0, missed) for missed in self._problem.violations(architecture).values())

    def _infeasible(self, missed: Iterable[Architecture], count: int, where: str) -> InfeasibleError:
        nearest = min(missed, key=self._gap)
        gaps = {text: gap for text, gap in self._problem.violations(nearest).items() if gap > 0}
        named = ", ".join(
            f"'{text}' by {gap:.3g} of its limit" if math.isfinite(gap) else f"'{text}', whose value is not a number"
            for text, gap in gaps.items()
        )
        return InfeasibleError(
            f"none of the {count} architectures {where} meets the constraints; the nearest misses {named}: "
            f"{nearest.key}. Relax the constraint or widen the space"
        )
