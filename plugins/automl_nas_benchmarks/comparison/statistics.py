"""The statistics of a comparison: ranks, tests, corrections for multiple tests, quantiles of censored times.

Losses are arrays of blocks (rows) by strategies (columns); a smaller loss is better. Sources: Demšar
2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, for the tests; Pratt 1959, "Remarks on
Zeros and Ties in the Wilcoxon Signed Rank Procedures", JASA 54, for equal losses; Holm 1979, "A Simple Sequentially
Rejective Multiple Test Procedure", Scand. J. Statist. 6, for the correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT = 500
"""Number of differing blocks up to which the signed-rank test is exact."""

Losses = NDArray[np.float64]
"""Losses, shape ``(blocks, strategies)``."""


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all strategies are equal.

    Attributes:
        mean_ranks: of each strategy over the blocks; 1 is best, equal losses share the mean of their ranks.
        blocks: number of blocks.
        chi2: Friedman's statistic, corrected for ties.
        chi2_p: its p-value, from the chi-squared distribution with k - 1 degrees of freedom.
        f: the less conservative statistic of Iman and Davenport (1980).
        f_p: its p-value, from the F distribution with k - 1 and (k - 1)(n - 1) degrees of freedom.
    """

    mean_ranks: tuple[float, ...]
    blocks: int
    chi2: float
    chi2_p: float
    f: float
    f_p: float


@dataclass(frozen=True)
class Pair:
    """Two strategies, compared block by block.

    Attributes:
        first: position of the first strategy.
        second: position of the second strategy.
        wins: number of blocks in which the first is better.
        losses: number of blocks in which the second is better.
        p: p-value of the two-sided Wilcoxon signed-rank test.
        adjusted: p-value corrected by Holm's method for all pairs.
    """

    first: int
    second: int
    wins: int
    losses: int
    p: float
    adjusted: float


def ranks(losses: Losses) -> Losses:
    """Return the rank of each strategy in each block: 1 is best, equal losses share the mean of their ranks."""
    from scipy.stats import rankdata

    block_ranks: Losses = rankdata(losses, axis=1)
    return block_ranks


def friedman(losses: Losses) -> Friedman:
    """Test whether all strategies are equal; see `Friedman`. At least two strategies and one block are needed."""
    blocks, k = losses.shape
    table = ranks(losses)
    means = table.mean(axis=0)
    shared = sum(
        float((counts**3 - counts).sum()) for counts in (np.unique(row, return_counts=True)[1] for row in table)
    )
    return friedman_of(means, blocks, ties=1 - shared / (blocks * (k**3 - k)))


def friedman_of(mean_ranks: Sequence[float] | NDArray[Any], blocks: int, *, ties: float = 1.0) -> Friedman:
    """Test from mean ranks alone (Demšar 2006, section 3.2.2).

    Args:
        mean_ranks: of each strategy.
        blocks: over how many blocks.
        ties: 1 - sum(t^3 - t) / (n (k^3 - k)) over all groups of t equal losses; 1 without ties.
    """
    from scipy.stats import chi2 as chi2_distribution, f as f_distribution

    means = np.asarray(mean_ranks, dtype=float)
    k = len(means)
    spread = float(((means - (k + 1) / 2) ** 2).sum())
    # If all losses are equal in every block, the strategies do not differ.
    chi2 = 12 * blocks / (k * (k + 1)) * spread / ties if ties > 1e-12 else 0.0
    room = blocks * (k - 1) - chi2
    f = (blocks - 1) * chi2 / room if room > 1e-9 else math.inf
    return Friedman(
        mean_ranks=tuple(float(value) for value in means),
        blocks=blocks,
        chi2=chi2,
        chi2_p=float(chi2_distribution.sf(chi2, k - 1)),
        f=f,
        f_p=float(f_distribution.sf(f, k - 1, (k - 1) * (blocks - 1))) if blocks > 1 else math.nan,
    )


def critical_difference(k: int, blocks: int, alpha: float = 0.05) -> float:
    """Return the difference of two mean ranks that is significant (Nemenyi; Demšar 2006, section 3.2.2).

    Args:
        k: number of strategies.
        blocks: number of blocks over which ranks were averaged.
        alpha: probability of any error in the k (k - 1) / 2 comparisons if all strategies are equal.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * blocks))


def groups(mean_ranks: Sequence[float], difference: float) -> list[tuple[int, ...]]:
    """Return the largest sets of strategies whose mean ranks are within a critical difference, best first.

    Sets of one strategy are omitted.
    """
    order = sorted(range(len(mean_ranks)), key=lambda place: (mean_ranks[place], place))
    joined: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = start
        while end + 1 < len(order) and mean_ranks[order[end + 1]] - mean_ranks[order[start]] <= difference:
            end += 1
        if end > start and end > reached:
            joined.append(tuple(order[start : end + 1]))
            reached = end
    return joined


def wilcoxon(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return the p-value of the two-sided Wilcoxon signed-rank test.

    Blocks with equal losses are ranked, lowest, but count for neither strategy (Pratt 1959). The p-value is exact given
    the absolute differences: if the strategies are equal, each difference favours either one with probability 1/2. With
    more than `_EXACT` nonzero differences it is the normal approximation.

    Args:
        first: losses of the first strategy, shape ``(blocks,)``.
        second: losses of the second strategy, same shape.
    """
    from scipy.stats import rankdata

    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    signed = differences != 0
    # Shared ranks are multiples of 1/2: twice the ranks are whole numbers.
    weights = np.rint(2 * rankdata(np.abs(differences))[signed]).astype(np.int64)
    better = differences[signed] < 0
    lower = int(min(weights[better].sum(), weights[~better].sum()))
    if len(weights) > _EXACT:
        distance = weights.sum() / 2 - lower
        return math.erfc(distance / math.sqrt(float((weights.astype(float) ** 2).sum()) / 4) / math.sqrt(2))
    # The distribution of the smaller rank sum, up to the observed value.
    chance = np.zeros(lower + 1)
    chance[0] = 1.0
    for weight in weights.tolist():
        shifted = np.zeros_like(chance)
        if weight <= lower:
            shifted[weight:] = chance[: lower + 1 - weight]
        chance = (chance + shifted) / 2
    return min(1.0, 2 * float(chance.sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979).

    Rejecting the hypotheses with adjusted values below alpha has a family-wise error of alpha. The i-th smallest of m
    values is multiplied by m - i + 1; adjusted values never decrease in this order and are at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def compare_pairs(losses: Losses) -> tuple[Pair, ...]:
    """Compare all pairs of strategies, with Holm's correction for their number.

    Differences are ranked across blocks, so losses must have the same meaning in all blocks.
    """
    k = losses.shape[1]
    places = [(i, j) for i in range(k) for j in range(i + 1, k)]
    p_values = [wilcoxon(losses[:, i], losses[:, j]) for i, j in places]
    return tuple(
        Pair(i, j, int((losses[:, i] < losses[:, j]).sum()), int((losses[:, i] > losses[:, j]).sum()), p, adjusted)
        for (i, j), p, adjusted in zip(places, p_values, holm(p_values), strict=True)
    )


def censored_quantile(times: Sequence[int | None], share: float) -> int | None:
    """Return the smallest time t such that at least ``share`` of all times are <= t; None if no such t exists.

    As all searches have the same budget, this is the Kaplan-Meier estimate.

    Args:
        times: one for each search; None for a search that did not arrive within the budget.
        share: in (0, 1].
    """
    arrived = sorted(time for time in times if time is not None)
    needed = max(1, math.ceil(share * len(times) - 1e-9))
    return arrived[needed - 1] if len(arrived) >= needed else None


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Return the volume that points dominate above a reference point; larger is better in every coordinate.

    The result is exact: with two objectives by a sweep, with more by slices along the last coordinate.

    Args:
        points: any points; those that are not better than the reference in every coordinate add nothing.
        reference: the lower corner of the volume.
    """
    inside = [tuple(point) for point in points if all(x > r for x, r in zip(point, reference, strict=True))]
    return _volume(inside, tuple(reference))


def _volume(points: list[tuple[float, ...]], reference: tuple[float, ...]) -> float:
    if not points:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in points) - reference[0]
    points = sorted(points, key=lambda point: -point[-1])
    if len(reference) == 2:
        volume, top = 0.0, reference[0]
        for x, y in points:
            if x > top:
                volume += (x - top) * (y - reference[1])
                top = x
        return volume
    heights = [point[-1] for point in points] + [reference[-1]]
    return sum(
        (high - low) * _volume([point[:-1] for point in points[: place + 1]], reference[:-1])
        for place, (high, low) in enumerate(pairwise(heights))
        if high > low
    )
