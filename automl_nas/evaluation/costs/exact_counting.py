"""Counting and drawing sums: how many ways are there to pick one code per item such that the total is in an interval?

The items are split into two chains. Each chain adds item after item and merges equal partial sums with their number of
ways, so that it stays small when many picks cost the same; a question about the whole is answered by meeting in the
middle (Horowitz and Sahni 1974): for each sum of one chain, a range of the other's sorted sums. All arithmetic is on
whole numbers, in 64 bits while they suffice and on Python integers beyond: counts are exact, draws exactly uniform.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError

Code: TypeAlias = tuple[int, ...]

MOST_SUMS = 1 << 22
"""The largest number of distinct partial sums a chain may hold (32 MB for the values, as much for the counts)."""

_MOST_BEFORE_MERGING = 1 << 24
_WORD = 1 << 62


@dataclass(frozen=True)
class SumCounts:
    """Distinct sums, ascending, and in how many ways each comes about.

    Attributes:
        values: shape ``(n,)``, whole numbers (int64, or Python integers where 64 bits are too few).
        counts: shape ``(n,)``, likewise.
    """

    values: NDArray[Any]
    counts: NDArray[Any]

    def plus(self, other: SumCounts) -> SumCounts:
        """Return the sums of one value of each.

        Raises:
            SpaceError: there are more than `MOST_SUMS` of them.
        """
        if len(self.values) * len(other.values) > _MOST_BEFORE_MERGING:
            raise _too_many()
        values = np.add.outer(self.values, other.values).ravel()
        counts = np.multiply.outer(self.counts, other.counts).ravel()
        result = merge(values, counts)
        if len(result.values) > MOST_SUMS:
            raise _too_many()
        return result


def merge(values: NDArray[Any], counts: NDArray[Any]) -> SumCounts:
    """Sort and add up the counts of equal values; both of shape ``(n,)`` with n > 0."""
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return SumCounts(values[starts], np.add.reduceat(counts, starts))


def integers(numbers: Sequence[int], bound: int) -> NDArray[Any]:
    """Return an array of int64 if ``bound`` fits, else of Python integers."""
    return np.array(numbers, dtype=np.int64 if bound < _WORD else object)


def _too_many() -> SpaceError:
    return SpaceError(
        f"too many different costs to count exactly: a half of the decisions has over {MOST_SUMS:,} distinct sums; use "
        "a metric with fewer distinct values (whole numbers with a common factor) or fewer decisions"
    )


def _pick(rng: random.Random, weights: NDArray[Any]) -> int:
    """Draw an index with probability proportional to its weight (whole numbers, not all zero)."""
    upto = np.cumsum(weights)
    return int(np.searchsorted(upto, rng.randrange(int(upto[-1])), side="right"))


class Item(ABC):
    """Something that takes one of several codes, each with a whole-number value."""

    ways: SumCounts

    @abstractmethod
    def draw(self, value: int, rng: random.Random) -> Code:
        """Draw uniformly among the codes of a value that occurs in `ways`."""


@final
class ListedSums(Item):
    """An item whose codes are listed: the options of a Choice, or an element that is in or out.

    Args:
        codes: the codes.
        values: the value of each.
        bound: a number that no sum and no count exceeds.
    """

    def __init__(self, codes: Sequence[Code], values: Sequence[int], bound: int) -> None:
        self._members: dict[int, list[Code]] = {}
        for code, value in zip(codes, values, strict=True):
            self._members.setdefault(value, []).append(code)
        self.ways = merge(integers(values, bound), integers([1] * len(values), bound))

    def draw(self, value: int, rng: random.Random) -> Code:
        """See `Item.draw`."""
        members = self._members[value]
        return members[rng.randrange(len(members))]


@final
class BoundedSubset(Item):
    """A subset of weighted elements with a smallest and a largest size.

    A chain over the elements carries ``sum * (k + 1) + size``, so that the sizes that are not allowed can be left out.

    Args:
        values: the value of each of the k elements.
        low: the smallest number of elements.
        high: the largest.
        bound: a number that no sum and no count exceeds.
    """

    def __init__(self, values: Sequence[int], low: int, high: int, bound: int) -> None:
        self._base = len(values) + 1
        bound *= self._base
        elements = [ListedSums([(0,), (1,)], [0, value * self._base + 1], bound) for value in values]

        def prune(keys: SumCounts, added: int) -> SumCounts:
            # What is too large already, or cannot become large enough, is dropped at once.
            sizes = keys.values % self._base
            kept = (sizes <= high) & (sizes + (len(values) - added) >= low)
            return SumCounts(keys.values[kept], keys.counts[kept])

        self._chain = Convolution(elements, bound, prune)
        self._keys = self._chain.ways
        # Keys ascend, so their sums do too: the keys of one sum are neighbours.
        self._sums = self._keys.values // self._base
        self.ways = merge(self._sums, self._keys.counts)

    def draw(self, value: int, rng: random.Random) -> Code:
        """See `Item.draw`."""
        first = int(np.searchsorted(self._sums, value, side="left"))
        last = int(np.searchsorted(self._sums, value, side="right"))
        place = first + _pick(rng, self._keys.counts[first:last])
        return tuple(bit for (bit,) in self._chain.draw(int(self._keys.values[place]), rng))


@final
class Convolution:
    """Items added one after the other; remembers every prefix, so that a sum can be traced back to codes.

    Args:
        items: in the order in which they are added; more may follow by `add`.
        bound: a number that no sum and no count exceeds.
        prune: ``prune(ways, added)`` may drop sums after each of the first ``added`` items.
    """

    def __init__(
        self, items: Sequence[Item], bound: int, prune: Callable[[SumCounts, int], SumCounts] = lambda ways, added: ways
    ) -> None:
        self._prune = prune
        self._items: list[Item] = []
        self._layers = [SumCounts(integers([0], bound), integers([1], bound))]
        for item in items:
            self.add(item)

    @property
    def ways(self) -> SumCounts:
        """The sums over all items."""
        return self._layers[-1]

    def add(self, item: Item) -> None:
        """Append an item.

        Raises:
            SpaceError: there would be more than `MOST_SUMS` distinct sums.
        """
        self._items.append(item)
        self._layers.append(self._prune(self.ways.plus(item.ways), len(self._items)))

    def draw(self, value: int, rng: random.Random) -> list[Code]:
        """Draw uniformly among all tuples of codes with this sum: one code per item, in their order."""
        codes: list[Code] = []
        for item, before in zip(reversed(self._items), reversed(self._layers[:-1]), strict=True):
            rest = value - item.ways.values
            places = np.minimum(np.searchsorted(before.values, rest), len(before.values) - 1)
            reachable = before.values[places] == rest
            chosen = _pick(rng, np.where(reachable, item.ways.counts * before.counts[places], 0))
            codes.append(item.draw(int(item.ways.values[chosen]), rng))
            value = int(rest[chosen])
        return codes[::-1]


@final
class Sums:
    """All sums over items, ready for questions about intervals.

    Args:
        items: one or more.
        bound: a number that no sum (in magnitude) and no number of ways exceeds.

    Raises:
        SpaceError: the sums are too many, even in two halves.
    """

    def __init__(self, items: Sequence[Item], bound: int) -> None:
        # Equal items side by side: their partial sums coincide most often.
        order = sorted(range(len(items)), key=lambda place: (items[place].ways.values.tolist(), place))
        chains = Convolution([], bound), Convolution([], bound)
        places: tuple[list[int], list[int]] = ([], [])
        while order:
            side = int(len(chains[0].ways.values) > len(chains[1].ways.values))
            place = order.pop(0 if side == 0 else -1)
            chains[side].add(items[place])
            places[side].append(place)
        self._chains, self._places = chains, places
        self._first, self._second = chains[0].ways, chains[1].ways
        self._upto = np.concatenate((integers([0], bound), np.cumsum(self._second.counts)))
        self._bounds = (
            int(self._first.values[0] + self._second.values[0]),
            int(self._first.values[-1] + self._second.values[-1]),
        )
        self._last: tuple[tuple[int, int], NDArray[Any], NDArray[Any]] | None = None

    def _interval(self, low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each sum of the first chain: where its partners begin, and how many ways there are in all."""
        low, high = max(low, self._bounds[0] - 1), min(high, self._bounds[1] + 1)
        if self._last is None or self._last[0] != (low, high):
            begin = np.searchsorted(self._second.values, low - self._first.values, side="left")
            end = np.searchsorted(self._second.values, high - self._first.values, side="right")
            partners = self._upto[np.maximum(end, begin)] - self._upto[begin]
            self._last = (low, high), begin, np.cumsum(self._first.counts * partners)
        return self._last[1], self._last[2]

    def count(self, low: int, high: int) -> int:
        """Return how many tuples of codes have a sum in ``low .. high``, both included."""
        return int(self._interval(low, high)[1][-1])

    def draw(self, low: int, high: int, rng: random.Random) -> list[Code]:
        """Draw uniformly among the tuples of codes with a sum in ``low .. high``; there must be one."""
        begin, upto = self._interval(low, high)
        place = int(np.searchsorted(upto, rng.randrange(int(upto[-1])), side="right"))
        ways = (int(upto[place]) - (int(upto[place - 1]) if place else 0)) // int(self._first.counts[place])
        ticket = int(self._upto[begin[place]]) + rng.randrange(ways)
        partner = int(np.searchsorted(self._upto, ticket, side="right")) - 1
        found: dict[int, Code] = {}
        for side, value in enumerate((self._first.values[place], self._second.values[partner])):
            found.update(zip(self._places[side], self._chains[side].draw(int(value), rng), strict=True))
        return [found[place] for place in range(len(found))]

    def nearest(self, low: int, high: int) -> tuple[int | None, int | None]:
        """Return the largest sum below ``low`` and the smallest above ``high``; None where there is none."""
        low, high = min(low, self._bounds[1] + 1), max(high, self._bounds[0] - 1)
        under = np.searchsorted(self._second.values, low - self._first.values, side="left") - 1
        over = np.searchsorted(self._second.values, high - self._first.values, side="right")
        has_under, has_over = under >= 0, over < len(self._second.values)
        below = (self._first.values + self._second.values[under])[has_under]
        above = self._first.values[has_over] + self._second.values[over[has_over]]
        return (int(below.max()) if len(below) else None), (int(above.min()) if len(above) else None)
