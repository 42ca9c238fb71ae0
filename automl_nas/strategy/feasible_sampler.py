"""Random feasible architectures, also if few architectures are feasible or few are left."""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Container, Iterable, Sequence
from functools import cache
from typing import final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space.architecture import Architecture
from automl_nas.space.integer_codec import IntegerCodec
from automl_nas.space.operators import enumerate_all, neighbours
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem

# If rejection fails, a space of at most this many raw assignments is enumerated: a fraction of a second, once.
_ENUMERABLE = 1 << 15
_log = logging.getLogger(__name__)
# After this time a search warns that it takes long.
_QUIET_SECONDS = 10.0
# Number of infeasible draws that are repaired; in spaces with additive costs the first repair succeeds.
_REPAIRS = 8


@cache
def _warn_once(text: str) -> None:
    # A comparison constructs hundreds of samplers of one problem.
    _log.warning(text)


@final
class FeasibleSampler:
    """Draws architectures that meet the constraints on costs and are not taken.

    Rejection comes first: up to ``attempts`` uniform draws. If one of them is feasible and not taken, the result is
    exactly uniform over all such architectures. Otherwise a small space is enumerated, which is also uniform and finds
    the last architecture. In a large space, infeasible draws are repaired: the decisions, in a random order, take the
    options with the smallest sum of violations. Then the neighbourhood of the repaired architecture is searched for one
    that is not taken. That is not uniform, and it may miss architectures.

    If a constraint can only be met by architectures that a cost lists (`CostModel.listing`, such as the rows of a
    table) and so few are listed that uniform draws would not meet one, all draws are from these, uniformly.

    Args:
        space: the space to draw from.
        problem: its constraints on costs must be met.
        attempts: the maximum number of uniform draws; also the maximum number of architectures that are checked around
            a repaired one.

    Attributes:
        codec: the encoding of the architectures in ``rejected``.
    """

    def __init__(self, space: SearchSpace, problem: Problem, attempts: int) -> None:
        if attempts < 1:
            raise ConfigurationError(f"attempts must be at least 1, not {attempts}", path="attempts")
        self._space, self._problem, self._attempts = space, problem, attempts
        self._decisions = space.decisions
        self.codec = IntegerCodec(space.decisions)
        self._all: list[Architecture] | None = None
        self._rows: list[Architecture] | None = None
        self._rows_read = False

    def draw(
        self, rng: random.Random, taken: Container[Architecture], rejected: set[int] | None = None
    ) -> Architecture | None:
        """Return a feasible architecture whose canonical form is not taken; None if the search finds none.

        Args:
            rng: a generator.
            taken: canonical forms that must not be returned.
            rejected: encoded architectures that are infeasible or taken; `draw` adds further ones. It saves time and
                does not change the result.

        Raises:
            InfeasibleError: no feasible architecture was drawn, taken or not; the message contains the smallest
                violations.
        """
        if (rows := self._sparse_rows()) is not None:
            return self._draw_row(rows, rng, taken)
        sample, decode = self.codec.sample, self.codec.decode
        rejected = set() if rejected is None else rejected
        drawn: list[int] = []
        begun = time.monotonic()
        for attempt in range(self._attempts):
            if attempt and time.monotonic() - begun > _QUIET_SECONDS:
                self._report_slow_search(attempt)
                begun = math.inf
            code = sample(rng)
            if code not in rejected:
                candidate = decode(code)
                if self._problem.feasible(candidate) and self._space.canonical(candidate) not in taken:
                    return candidate
                rejected.add(code)
            drawn.append(code)
        if self._space.size <= _ENUMERABLE:
            free = [item for item in self._feasible() if self._space.canonical(item) not in taken]
            return free[rng.randrange(len(free))] if free else None
        still_infeasible: list[Architecture] = []
        infeasible = [item for item in map(decode, drawn) if not self._problem.feasible(item)]
        any_feasible = len(infeasible) < len(drawn)
        for start in infeasible[:_REPAIRS]:
            repaired = self._repair(start, rng)
            if not self._problem.feasible(repaired):
                if repaired in still_infeasible:
                    break  # further repairs of a cost that grows with every decision end there, too
                still_infeasible.append(repaired)
                continue
            any_feasible = True
            if (neighbour := self._around(repaired, rng, taken)) is not None:
                return neighbour
        if not any_feasible:
            raise self._infeasible(still_infeasible, self._attempts, "tried")
        return None

    def _report_slow_search(self, drawn: int) -> None:
        limits = " and ".join(f"{constraint.metric} {constraint.text}" for constraint in self._problem.constraints)
        _warn_once(
            f"few networks meet {limits}: none of {drawn} random ones so far, of at most {self._attempts:,} before a "
            "network that misses the limits is changed until it meets them; this takes long, since each cost is "
            "counted anew. A looser limit, a narrower space or fewer attempts shorten it"
        )

    def sample(self, rng: random.Random) -> Architecture:
        """Return an architecture that may miss limits: uniform over the space, or over listed architectures."""
        if self._space.exclusions:
            return self._space.sample(rng)
        rows = self._sparse_rows()
        return self.codec.decode(self.codec.sample(rng)) if rows is None else rows[rng.randrange(len(rows))]

    def _sparse_rows(self) -> list[Architecture] | None:
        """Return the listed architectures if uniform draws would not meet one; None: draw from the space."""
        if self._rows_read:
            return self._rows
        self._rows_read = True
        listings: list[tuple[Sequence[Architecture], str]] = []
        for constraint in self._problem.constraints:
            model = self._problem.cost_models.get(constraint.metric)
            listing = None if model is None else model.listing()
            if listing is None:
                continue
            listed, other = listing
            if constraint.violation(math.nan if other == math.inf else other) > 0:
                listings.append((listed, f"{constraint.metric} {constraint.text}"))
        if not listings:
            return None
        listed, text = min(listings, key=lambda item: len(item[0]))
        if not listed:
            raise InfeasibleError(f"no architecture of the space is listed, so none meets '{text}'")
        if len(listed) * self._attempts >= self._space.size:
            return None
        self._rows = [self._space.validate(item) for item in listed]
        _warn_once(
            f"only {len(self._rows):,} of {self._space.size:.3g} architectures can meet '{text}': random candidates "
            "are drawn from these; mutation, crossover and neighbours rarely lead from one to another, so most "
            "candidates will be random"
        )
        return self._rows

    def _draw_row(
        self, rows: Sequence[Architecture], rng: random.Random, taken: Container[Architecture]
    ) -> Architecture | None:
        canonical, feasible = self._space.canonical, self._problem.feasible
        for _ in range(self._attempts):
            row = rows[rng.randrange(len(rows))]
            if canonical(row) not in taken and feasible(row):
                return row
        met = [row for row in rows if feasible(row)]
        if not met:
            raise self._infeasible(rows, len(rows), "that are listed")
        free = [row for row in met if canonical(row) not in taken]
        return free[rng.randrange(len(free))] if free else None

    def _feasible(self) -> list[Architecture]:
        if self._all is None:
            # One raw assignment for each canonical architecture: the first in the order of enumeration.
            distinct: dict[Architecture, Architecture] = {}
            for item in enumerate_all(self._decisions):
                if self._problem.feasible(item):
                    distinct.setdefault(self._space.canonical(item), item)
            self._all = list(distinct.values())
        if not self._all:
            raise self._infeasible(enumerate_all(self._decisions), self._space.size, "in the space")
        return self._all

    def _repair(self, start: Architecture, rng: random.Random) -> Architecture:
        # One decision after the other, since the steepest of all single changes would need the costs of all neighbours
        # for each change: a cost without a table takes milliseconds.
        current, violation = start, self._total_violation(start)
        names = list(self._decisions)
        rng.shuffle(names)
        improved = True
        while improved and violation > 0:
            improved = False
            for name in names:
                best = current
                for option in self._decisions[name].neighbours(current[name]):
                    other = current.replace({name: option})
                    if (total := self._total_violation(other)) < violation:
                        best, violation, improved = other, total, True
                current = best
                if violation <= 0:
                    break
        return current

    def _around(self, start: Architecture, rng: random.Random, taken: Container[Architecture]) -> Architecture | None:
        # Breadth-first search over feasible architectures: it returns the nearest one that is not taken.
        visited, queue = {start}, deque([start])
        while queue:
            current = queue.popleft()
            if self._space.canonical(current) not in taken:
                return current
            others = list(neighbours(current, self._decisions))
            rng.shuffle(others)
            for other in others:
                if len(visited) < self._attempts and other not in visited and self._problem.feasible(other):
                    visited.add(other)
                    queue.append(other)
        return None

    def _total_violation(self, architecture: Architecture) -> float:
        return sum(max(0.0, violation) for violation in self._problem.violations(architecture).values())

    def _infeasible(self, candidates: Iterable[Architecture], count: int, where: str) -> InfeasibleError:
        nearest = min(candidates, key=self._total_violation)
        violations = ", ".join(
            f"'{text}' by {value:.3g} times the limit"
            if math.isfinite(value)
            else f"'{text}', whose value is not a number"
            for text, value in self._problem.violations(nearest).items()
            if value > 0
        )
        return InfeasibleError(
            f"none of the {count} architectures {where} meets the constraints; the nearest misses {violations}: "
            f"{nearest.key}. Relax the constraint or widen the space"
        )
