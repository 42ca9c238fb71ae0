"""Exact counting: the number of ways to pick one code for each item so that the sum of values is in an interval.

A convolution adds one item after another and merges equal partial sums, counting their combinations, so that it stays
small if many combinations have the same sum. All arithmetic is on whole numbers, of 64 bits if these suffice, otherwise
on Python integers: counts are exact, draws are exactly uniform. The module `sums` combines two convolutions.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset

Code: TypeAlias = tuple[int, ...]

MOST_SUMS = 1 << 22
"""The largest number of distinct partial sums of a half (32 MB for the values and 32 MB for the counts)."""

_MOST_BEFORE_MERGING = 1 << 24
_MOST_REMEMBERED = 1 << 17  # lists of a few numbers: tens of MB
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
        self._ways_of: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
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
        for place in range(len(self._items) - 1, -1, -1):
            values, cumulative = self._ways(place, value)
            own = values[bisect_right(cumulative, rng.randrange(cumulative[-1]))]
            codes.append(self._items[place].draw(own, rng))
            value -= own
        return codes[::-1]

    def _ways(self, place: int, total: int) -> tuple[list[int], list[int]]:
        """Return the values of an item with which it and the items before it have a sum, and cumulative counts."""
        ways = self._ways_of.get((place, total))
        if ways is None:
            item, before = self._items[place].sums, self._prefixes[place]
            rest = total - item.values
            indices = np.minimum(np.searchsorted(before.values, rest), len(before.values) - 1)
            reachable = before.values[indices] == rest
            counts = (item.counts * before.counts[indices])[reachable]
            ways = item.values[reachable].tolist(), np.cumsum(counts).tolist()
            if len(self._ways_of) >= _MOST_REMEMBERED:
                self._ways_of.clear()
            self._ways_of[place, total] = ways
        return ways


def items_of(decisions: Iterable[Decision], units: Iterable[Sequence[int]], bound: int) -> list[Item]:
    """Return the items of decisions: one for each, or one for each element of a `Subset` of any size.

    Args:
        decisions: in order.
        units: of each decision, the value of each option.
        bound: an upper bound on all sums and counts.
    """
    items: list[Item] = []
    for decision, own in zip(decisions, units, strict=True):
        if not isinstance(decision, Subset):
            items.append(Options([(index,) for index in range(len(own))], own, bound))
        elif decision.min == 0 and decision.largest == decision.width:
            items += [Options([(0,), (1,)], [0, unit], bound) for unit in own]
        else:
            items.append(BoundedSubset(own, decision.min, decision.largest, bound))
    return items


def decoded(decisions: Mapping[str, Decision], codes: Iterable[Code]) -> Architecture:
    """Return the architecture of the codes that were drawn for the items of `items_of`."""
    remaining = iter(codes)
    values: dict[str, Value] = {}
    for name, decision in decisions.items():
        code = next(remaining)
        while len(code) < decision.width:
            code += next(remaining)
        values[name] = decision.decode(code)
    return Architecture(values)
