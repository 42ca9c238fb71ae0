"""Counting and drawing architectures whose additive costs are all in intervals: `CostSampler`."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.costs.exact_counting import decoded, items_of
from automl_nas.evaluation.costs.knapsack import CostInterval
from automl_nas.evaluation.costs.sums import drawn_codes, split
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture

MOST_PAIRS = 1 << 30
"""The largest number of pairs of partial sums that are compared, once for each `CostSampler` (a few seconds)."""


@final
class CostSampler:
    """Draws exactly uniformly among the raw architectures that meet limits on additive costs, without rejection.

    With limits on one cost a draw is one of `CostTable.sample`. With limits on several costs, the partial sums of both
    halves of the decisions are vectors, one number for each cost, packed into one whole number so that equal vectors
    merge. Each sum of the first half is compared with the sums of the second half that meet the limit on the first
    cost. Decisions with the same options, such as the blocks of a stage, have few distinct sums; if half of the
    decisions have too many, an error results.

    Args:
        intervals: the limits, at least one; all tables are of the same space.

    Raises:
        InfeasibleError: no architecture meets the limits; the message names the nearest costs.
        SpaceError: there are too many distinct costs to count exactly.
    """

    def __init__(self, intervals: Sequence[CostInterval]) -> None:
        merged: dict[CostTable, CostInterval] = {}
        for each in intervals:
            other = merged.get(each.table, CostInterval(each.table))
            merged[each.table] = CostInterval(each.table, max(other.low, each.low), min(other.high, each.high))
        self._intervals = list(merged.values())
        for each in self._intervals:
            if not each.table.count(each.low, each.high):
                each.table.sample(random.Random(0), each.low, each.high)  # raises the error with the nearest costs
        # The cost that fewest architectures meet is compared first.
        self._intervals.sort(key=lambda each: each.table.count(each.low, each.high))
        self._joint = _JointSums(self._intervals) if len(self._intervals) > 1 else None

    @property
    def count(self) -> int:
        """The exact number of raw architectures that meet the limits."""
        (first, *_) = self._intervals
        return first.table.count(first.low, first.high) if self._joint is None else self._joint.count

    def sample(self, rng: random.Random) -> Architecture:
        """Draw an architecture.

        Args:
            rng: a generator; the draw is a function of its state.
        """
        if self._joint is not None:
            return self._joint.draw(rng)
        (only,) = self._intervals
        return only.table.sample(rng, only.low, only.high)


class _JointSums:
    """The sums of several costs at once; see `CostSampler`."""

    def __init__(self, intervals: Sequence[CostInterval]) -> None:
        tables = [each.table for each in intervals]
        self._decisions = tables[0].decisions
        self._intervals = intervals
        self._limits = [each.table.unit_interval(each.low, each.high) for each in intervals]
        ranges = [_range(table) for table in tables]
        packed = {
            name: [_pack(values, ranges) for values in zip(*(table.units[name] for table in tables), strict=True)]
            for name in self._decisions
        }
        magnitude = sum(abs(value) for values in packed.values() for value in values)
        bound = max(magnitude, math.prod(decision.size for decision in self._decisions.values()))
        items = items_of(self._decisions.values(), packed.values(), bound)
        self._halves, self._indices = split(items, bound)
        self._first, self._second = (half.sums for half in self._halves)
        self._own = _unpack(self._first.values, ranges)
        self._theirs = _unpack(self._second.values, ranges)
        # Packed numbers are in the order of their first cost.
        (low, high), theirs = self._limits[0], self._theirs[0]
        self._begin = np.searchsorted(theirs, low - self._own[0], side="left")
        self._end = np.searchsorted(theirs, high - self._own[0], side="right")
        if int((self._end - self._begin).sum()) > MOST_PAIRS:
            raise SpaceError(
                f"too many distinct costs to count exactly: limits on {' and '.join(t.metric for t in tables)} "
                f"together need over {MOST_PAIRS:,} comparisons of partial sums"
            )
        ways = [int(count) * int(self._partners(row).sum()) for row, count in enumerate(self._first.counts.tolist())]
        self._cumulative = np.cumsum(np.array(ways, dtype=np.int64 if bound < 1 << 62 else object))
        self.count = int(self._cumulative[-1])
        if not self.count:
            raise InfeasibleError(self._infeasible_message())

    def draw(self, rng: random.Random) -> Architecture:
        row = int(np.searchsorted(self._cumulative, rng.randrange(self.count), side="right"))
        partners = np.cumsum(self._partners(row))
        place = int(np.searchsorted(partners, rng.randrange(int(partners[-1])), side="right"))
        values = int(self._first.values[row]), int(self._second.values[int(self._begin[row]) + place])
        return decoded(self._decisions, drawn_codes(self._halves, self._indices, values, rng))

    def _partners(self, row: int) -> NDArray[Any]:
        """Return the counts of the second half's sums from ``begin`` to ``end``, 0 where a limit is missed."""
        part = slice(int(self._begin[row]), int(self._end[row]))
        counts = self._second.counts[part]
        meets = np.ones(len(counts), dtype=bool)
        for (low, high), own, theirs in zip(self._limits[1:], self._own[1:], self._theirs[1:], strict=True):
            meets &= (theirs[part] >= low - own[row]) & (theirs[part] <= high - own[row])
        return np.where(meets, counts, 0)

    def _infeasible_message(self) -> str:
        limits = [f"{each.table.metric} of {_in_words(each)}" for each in self._intervals]
        parts = [f"no architecture has {' together with '.join(limits)}, though each limit can be met alone"]
        for place, each in enumerate(self._intervals):
            for word, units in zip(("below", "above"), self._nearest(place), strict=True):
                if units is not None:
                    cost = each.table.cost_of(units)
                    parts.append(
                        f"of those that meet the other limits, the nearest {each.table.metric} {word} is {cost:,}"
                    )
        return "; ".join(parts)

    def _nearest(self, place: int) -> tuple[int | None, int | None]:
        """Return the nearest sums of a cost below and above its interval, of those that meet the other limits."""
        below: int | None = None
        above: int | None = None
        if len(self._first.values) * len(self._second.values) > MOST_PAIRS:
            return below, above
        for row in range(len(self._first.values)):
            sums = [own[row] + theirs for own, theirs in zip(self._own, self._theirs, strict=True)]
            meets = np.ones(len(sums[0]), dtype=bool)
            for other, (low, high) in enumerate(self._limits):
                if other != place:
                    meets &= (sums[other] >= low) & (sums[other] <= high)
            values, (low, high) = sums[place][meets], self._limits[place]
            under, over = values[values < low], values[values > high]
            if len(under):
                below = max(int(under.max()), int(under.max()) if below is None else below)
            if len(over):
                above = min(int(over.min()), int(over.min()) if above is None else above)
        return below, above


def _in_words(interval: CostInterval) -> str:
    limits = [f"at least {interval.low:,}"] * (interval.low > -math.inf)
    limits += [f"at most {interval.high:,}"] * (interval.high < math.inf)
    return f"{' and '.join(limits) or 'any value'} {interval.table.unit}"


def _range(table: CostTable) -> tuple[int, int]:
    """Return the smallest and the largest number that the units of some decisions can add up to."""
    units = [unit for values in table.units.values() for unit in values]
    return sum(min(unit, 0) for unit in units), sum(max(unit, 0) for unit in units)


def _pack(values: Sequence[int], ranges: Sequence[tuple[int, int]]) -> int:
    """Return one whole number for a vector of sums: sums of packed vectors are packed sums of vectors."""
    packed = values[0]
    for value, (low, high) in zip(values[1:], ranges[1:], strict=True):
        packed = packed * (high - low + 1) + value
    return packed


def _unpack(packed: NDArray[Any], ranges: Sequence[tuple[int, int]]) -> list[NDArray[Any]]:
    """Return the vectors of packed sums, one array for each cost."""
    parts: list[NDArray[Any]] = []
    for low, high in reversed(ranges[1:]):
        width = high - low + 1
        part = (packed - low) % width + low
        parts.append(part)
        packed = (packed - part) // width
    return [packed, *reversed(parts)]
