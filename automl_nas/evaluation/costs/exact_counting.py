"""Exact counting: the number of ways to pick one code for each item so that the sum of values is in an interval.

The items are split into two convolutions. Each adds one item after another and merges equal partial sums, counting
their combinations, so that it stays small if many combinations have the same sum. A query about all items is answered
by meeting in the middle (Horowitz and Sahni 1974): each sum of one half is combined with a range of the sorted sums of
the other. All arithmetic is on whole numbers, of 64 bits if these suffice, otherwise on Python integers: counts are
exact, draws are exactly uniform.
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
"""The largest number of distinct partial sums of a half (32 MB for the values and 32 MB for the counts)."""

_MOST_BEFORE_MERGING = 1 << 24
_WORD = 1 << 62


@dataclass(frozen=True)
class SumCounts:
    """Distinct sums in ascending order, and the number of combinations of codes with each sum.

    Attributes:
        values: the sums, shape ``(n,)``, whole numbers (int64, or Python integers where 64 bits are too few).
        counts: the numbers of combinations, shape ``(n,)``, of the same kind.
    """

    values: NDArray[Any]
    counts: NDArray[Any]

    def plus(self, other: SumCounts) -> SumCounts:
        """Return all sums of one value of this object and one of the other.

        Raises:
            SpaceError: there are more than `MOST_SUMS` sums.
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
    """Sort the values and add up the counts of equal ones; both arrays have shape ``(n,)`` with n > 0."""
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return SumCounts(values[starts], np.add.reduceat(counts, starts))


def integers(numbers: Sequence[int], bound: int) -> NDArray[Any]:
    """Return an array of int64 if ``bound`` fits into it, otherwise of Python integers."""
    return np.array(numbers, dtype=np.int64 if bound < _WORD else object)


def _too_many() -> SpaceError:
    return SpaceError(
        f"too many distinct costs to count exactly: half of the decisions have over {MOST_SUMS:,} distinct sums; use a "
        "metric with fewer distinct values (whole numbers with a common factor) or fewer decisions"
    )


def _pick(rng: random.Random, weights: NDArray[Any]) -> int:
    """Draw an index with a probability proportional to its weight (whole numbers, not all zero)."""
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, rng.randrange(int(cumulative[-1])), side="right"))


class Item(ABC):
    """A decision or an element of a Subset: it takes one of several codes, each with a whole number as its value.

    Attributes:
        sums: the values, and the number of codes with each value.
    """

    sums: SumCounts

    @abstractmethod
    def draw(self, value: int, rng: random.Random) -> Code:
        """Draw uniformly among the codes with a value that occurs in `sums`."""


@final
class Options(Item):
    """An item with a list of codes: the options of a Choice, or the presence and absence of a Subset's element.

    Args:
        codes: the codes.
        values: the value of each code.
        bound: an upper bound on all sums and counts.
    """

    def __init__(self, codes: Sequence[Code], values: Sequence[int], bound: int) -> None:
        self._codes: dict[int, list[Code]] = {}
        for code, value in zip(codes, values, strict=True):
            self._codes.setdefault(value, []).append(code)
        self.sums = merge(integers(values, bound), integers([1] * len(values), bound))

    def draw(self, value: int, rng: random.Random) -> Code:
        """See `Item.draw`."""
        codes = self._codes[value]
        return codes[rng.randrange(len(codes))]


@final
class BoundedSubset(Item):
    """A Subset with a smallest and a largest size.

    The convolution of its elements has keys ``sum * (k + 1) + size``, so that subsets of other sizes can be removed.

    Args:
        values: the value of each of the k elements.
        low: the smallest number of elements.
        high: the largest number of elements.
        bound: an upper bound on all sums and counts.
    """

    def __init__(self, values: Sequence[int], low: int, high: int, bound: int) -> None:
        self._base = len(values) + 1
        bound *= self._base
        elements = [Options([(0,), (1,)], [0, value * self._base + 1], bound) for value in values]

        def prune(keys: SumCounts, added: int) -> SumCounts:
            # Subsets that are already too large, or cannot become large enough, are removed.
            sizes = keys.values % self._base
            possible = (sizes <= high) & (sizes + (len(values) - added) >= low)
            return SumCounts(keys.values[possible], keys.counts[possible])

        self._convolution = Convolution(elements, bound, prune)
        self._keys = self._convolution.sums
        # Keys are in ascending order, and so are their sums: the keys with the same sum are adjacent.
        self._key_sums = self._keys.values // self._base
        self.sums = merge(self._key_sums, self._keys.counts)

    def draw(self, value: int, rng: random.Random) -> Code:
        """See `Item.draw`."""
        first = int(np.searchsorted(self._key_sums, value, side="left"))
        last = int(np.searchsorted(self._key_sums, value, side="right"))
        index = first + _pick(rng, self._keys.counts[first:last])
        return tuple(bit for (bit,) in self._convolution.draw(int(self._keys.values[index]), rng))


@final
class Convolution:
    """The sums over items that are added one after another; the sums of each prefix are stored, for `draw`.

    Args:
        items: in the order in which they are added; `add` appends more.
        bound: an upper bound on all sums and counts.
        prune: ``prune(sums, added)`` may remove sums; it is called after each item, with the number of items so far.
    """

    def __init__(
        self, items: Sequence[Item], bound: int, prune: Callable[[SumCounts, int], SumCounts] = lambda sums, added: sums
    ) -> None:
        self._prune = prune
        self._items: list[Item] = []
        self._prefixes = [SumCounts(integers([0], bound), integers([1], bound))]
        for item in items:
            self.add(item)

    @property
    def sums(self) -> SumCounts:
        """The sums over all items."""
        return self._prefixes[-1]

    def add(self, item: Item) -> None:
        """Append an item.

        Raises:
            SpaceError: there are more than `MOST_SUMS` distinct sums.
        """
        self._items.append(item)
        self._prefixes.append(self._prune(self.sums.plus(item.sums), len(self._items)))

    def draw(self, value: int, rng: random.Random) -> list[Code]:
        """Draw uniformly among all tuples of codes with this sum: one code for each item, in their order."""
        codes: list[Code] = []
        for item, before in zip(reversed(self._items), reversed(self._prefixes[:-1]), strict=True):
            rest = value - item.sums.values
            indices = np.minimum(np.searchsorted(before.values, rest), len(before.values) - 1)
            reachable = before.values[indices] == rest
            chosen = _pick(rng, np.where(reachable, item.sums.counts * before.counts[indices], 0))
            codes.append(item.draw(int(item.sums.values[chosen]), rng))
            value = int(rest[chosen])
        return codes[::-1]


@final
class Sums:
    """All sums over items; counts and draws those in an interval.

    Args:
        items: one or more.
        bound: an upper bound on the magnitude of all sums and on all counts.

    Raises:
        SpaceError: a half of the items has more than `MOST_SUMS` distinct sums.
    """

    def __init__(self, items: Sequence[Item], bound: int) -> None:
        # Equal items are put into the same half, since their partial sums coincide most often.
        order = sorted(range(len(items)), key=lambda index: (items[index].sums.values.tolist(), index))
        halves = Convolution([], bound), Convolution([], bound)
        indices: tuple[list[int], list[int]] = ([], [])
        while order:
            half = int(len(halves[0].sums.values) > len(halves[1].sums.values))
            index = order.pop(0 if half == 0 else -1)
            halves[half].add(items[index])
            indices[half].append(index)
        self._halves, self._indices = halves, indices
        self._first, self._second = halves[0].sums, halves[1].sums
        self._cumulative = np.concatenate((integers([0], bound), np.cumsum(self._second.counts)))
        self._bounds = (
            int(self._first.values[0] + self._second.values[0]),
            int(self._first.values[-1] + self._second.values[-1]),
        )
        self._last: tuple[tuple[int, int], NDArray[Any], NDArray[Any]] | None = None

    def _interval(self, low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return two arrays with one number for each sum of the first half.

        The index of the first sum of the second half with which it is in the interval, and the number of combinations
        in the interval, cumulative.
        """
        low, high = max(low, self._bounds[0] - 1), min(high, self._bounds[1] + 1)
        if self._last is None or self._last[0] != (low, high):
            begin = np.searchsorted(self._second.values, low - self._first.values, side="left")
            end = np.searchsorted(self._second.values, high - self._first.values, side="right")
            partners = self._cumulative[np.maximum(end, begin)] - self._cumulative[begin]
            self._last = (low, high), begin, np.cumsum(self._first.counts * partners)
        return self._last[1], self._last[2]

    def count(self, low: int, high: int) -> int:
        """Return the number of tuples of codes with a sum from ``low`` to ``high``, both included."""
        return int(self._interval(low, high)[1][-1])

    def draw(self, low: int, high: int, rng: random.Random) -> list[Code]:
        """Draw uniformly among the tuples of codes with a sum from ``low`` to ``high``; there must be at least one."""
        begin, cumulative = self._interval(low, high)
        first = int(np.searchsorted(cumulative, rng.randrange(int(cumulative[-1])), side="right"))
        partners = (int(cumulative[first]) - (int(cumulative[first - 1]) if first else 0)) // int(
            self._first.counts[first]
        )
        partner = int(self._cumulative[begin[first]]) + rng.randrange(partners)
        second = int(np.searchsorted(self._cumulative, partner, side="right")) - 1
        codes: dict[int, Code] = {}
        for half, value in enumerate((self._first.values[first], self._second.values[second])):
            codes.update(zip(self._indices[half], self._halves[half].draw(int(value), rng), strict=True))
        return [codes[index] for index in range(len(codes))]

    def nearest(self, low: int, high: int) -> tuple[int | None, int | None]:
        """Return the largest sum below ``low`` and the smallest above ``high``; None where no such sum exists."""
        low, high = min(low, self._bounds[1] + 1), max(high, self._bounds[0] - 1)
        under = np.searchsorted(self._second.values, low - self._first.values, side="left") - 1
        over = np.searchsorted(self._second.values, high - self._first.values, side="right")
        has_under, has_over = under >= 0, over < len(self._second.values)
        below = (self._first.values + self._second.values[under])[has_under]
        above = self._first.values[has_over] + self._second.values[over[has_over]]
        return (int(below.max()) if len(below) else None), (int(above.min()) if len(above) else None)
