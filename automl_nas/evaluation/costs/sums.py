"""The sums over items in an interval: two convolutions of half of the items, met in the middle.

A query about all items is answered by meeting in the middle (Horowitz and Sahni 1974): each sum of one half is combined
with a range of the sorted sums of the other. Counts are exact, draws are exactly uniform.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation.costs.exact_counting import MOST_SUMS, Code, Convolution, Item, integers


def split(items: Sequence[Item], bound: int) -> tuple[tuple[Convolution, Convolution], tuple[list[int], list[int]]]:
    """Return two convolutions of about as many sums each, and the indices of the items of each.

    Equal items are put into the same half, since their partial sums coincide most often.

    Args:
        items: one or more.
        bound: an upper bound on the magnitude of all sums and on all counts.

    Raises:
        SpaceError: a half of the items has more than `MOST_SUMS` distinct sums.
    """
    order = sorted(range(len(items)), key=lambda index: (items[index].sums.values.tolist(), index))
    halves = Convolution([], bound), Convolution([], bound)
    indices: tuple[list[int], list[int]] = ([], [])
    while order:
        half = int(len(halves[0].sums.values) > len(halves[1].sums.values))
        index = order.pop(0 if half == 0 else -1)
        halves[half].add(items[index])
        indices[half].append(index)
    return halves, indices


def drawn_codes(
    halves: Sequence[Convolution], indices: Sequence[Sequence[int]], values: Sequence[int], rng: random.Random
) -> list[Code]:
    """Draw the codes of all items uniformly among those with the given sums of both halves; see `split`."""
    codes: dict[int, Code] = {}
    for half, own, value in zip(halves, indices, values, strict=True):
        codes.update(zip(own, half.draw(int(value), rng), strict=True))
    return [codes[index] for index in range(len(codes))]


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
        self._halves, self._indices = split(items, bound)
        self._first, self._second = (half.sums for half in self._halves)
        self._cumulative = np.concatenate((integers([0], bound), np.cumsum(self._second.counts)))
        self._bounds = (
            int(self._first.values[0] + self._second.values[0]),
            int(self._first.values[-1] + self._second.values[-1]),
        )
        self._intervals: dict[tuple[int, int], tuple[NDArray[Any], NDArray[Any]]] = {}

    def _interval(self, low: int, high: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return two arrays with one number for each sum of the first half.

        The index of the first sum of the second half with which it is in the interval, and the number of combinations
        in the interval, cumulative.
        """
        low, high = max(low, self._bounds[0] - 1), min(high, self._bounds[1] + 1)
        entry = self._intervals.get((low, high))
        if entry is None:
            begin = np.searchsorted(self._second.values, low - self._first.values, side="left")
            end = np.searchsorted(self._second.values, high - self._first.values, side="right")
            partners = self._cumulative[np.maximum(end, begin)] - self._cumulative[begin]
            entry = begin, np.cumsum(self._first.counts * partners)
            if (len(self._intervals) + 1) * len(begin) > MOST_SUMS:
                self._intervals.clear()
            self._intervals[low, high] = entry
        return entry

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
        values = int(self._first.values[first]), int(self._second.values[second])
        return drawn_codes(self._halves, self._indices, values, rng)

    def nearest(self, low: int, high: int) -> tuple[int | None, int | None]:
        """Return the largest sum below ``low`` and the smallest above ``high``; None where no such sum exists."""
        low, high = min(low, self._bounds[1] + 1), max(high, self._bounds[0] - 1)
        under = np.searchsorted(self._second.values, low - self._first.values, side="left") - 1
        over = np.searchsorted(self._second.values, high - self._first.values, side="right")
        has_under, has_over = under >= 0, over < len(self._second.values)
        below = (self._first.values + self._second.values[under])[has_under]
        above = self._first.values[has_over] + self._second.values[over[has_over]]
        return (int(below.max()) if len(below) else None), (int(above.min()) if len(above) else None)
