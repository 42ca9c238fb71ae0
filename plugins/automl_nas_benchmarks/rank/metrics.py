"""Measures of how well the scores of a predictor rank networks, beside Kendall's tau, and their bootstrap intervals.

``scores`` are the values of a predictor and ``truth`` the true values, shape ``(n,)`` each; larger is better. If ties
matter (a count of layers has many), a measure is the mean over all orders of the tied networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from automl_nas.streams import stream_seed

Values: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]
Measure: TypeAlias = Callable[[Values, Values], float]
"""(scores, truth) -> value; NaN if it is undefined."""


def spearman(scores: Values, truth: Values) -> float:
    """Return Spearman's correlation of ranks, with mean ranks for ties; NaN if either is constant."""
    if _constant(scores) or _constant(truth):
        return float("nan")
    one, other = (ranks - ranks.mean() for ranks in (mean_ranks(scores), mean_ranks(truth)))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def precision_at(k: int) -> Measure:
    """Return a measure: the share of the k networks with the best scores whose truth is among the k best truths.

    A network that equals the k-th best truth counts as well. A random order gives k / n if no truths are equal.
    """

    def precision(scores: Values, truth: Values) -> float:
        top = min(k, len(scores))
        if top == 0:
            return float("nan")
        return float(_chances(scores, top)[truth >= np.sort(truth)[-top]].sum()) / top

    return precision


def best_rank_at(k: int) -> Measure:
    """Return a measure: the best true rank among the k networks with the best scores; rank 1 is the best.

    Equal truths share the best of their ranks. A random order gives about (n + 1) / (k + 1).
    """

    def best_rank(scores: Values, truth: Values) -> float:
        top = min(k, len(scores))
        if top == 0:
            return float("nan")
        ranks = true_ranks(truth)
        border = np.sort(scores)[-top]
        sure = ranks[scores > border]
        tied = np.sort(ranks[scores == border])
        return _expected_least(float(sure.min()) if len(sure) else float("inf"), tied, top - len(sure))

    return best_rank


def true_ranks(truth: Values) -> Values:
    """Return the rank of each true value, 1 for the best, shape ``(n,)``; equal values share the best rank."""
    ranks: Values = stats.rankdata(-truth, method="min").astype(np.float64)
    return ranks


def bootstrap(
    value: Callable[[int, Rows], float], *, runs: int, size: int, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean of a value over runs.

    Each resample draws architectures with replacement, the same for all runs, and runs (supernets trained from
    different seeds) with replacement. Resamples without a value are omitted; the result is NaN if no resample has one.

    Args:
        value: (number of the run, numbers of the drawn architectures) -> value.
        runs: number of runs.
        size: number of architectures.
        resamples: number of resamples.
        seed: seed of the draws; intervals with equal seeds are based on the same draws.
        level: confidence level.
    """
    rng = np.random.default_rng(stream_seed(seed, "bootstrap"))
    means = []
    for _ in range(resamples):
        rows = rng.integers(size, size=size)
        drawn, counts = np.unique(rng.integers(runs, size=runs), return_counts=True)
        values = [value(int(run), rows) for run in drawn]
        means.append(float(np.average(values, weights=counts)))
    defined = np.array([mean for mean in means if not np.isnan(mean)])
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _constant(values: Values) -> bool:
    return len(values) < 2 or bool(np.all(values == values[0]))


def mean_ranks(values: Values) -> Values:
    """Return the rank of each value, 1 for the smallest, shape ``(n,)``; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Values = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _chances(values: Values, top: int) -> Values:
    """Return the probability of each value to be among the ``top`` largest, with ties in random order."""
    border = np.sort(values)[-top]
    above, tied = values > border, values == border
    share = (top - int(above.sum())) / int(tied.sum())
    chances: Values = above + share * tied
    return chances


def _expected_least(sure: float, tied: Values, drawn: int) -> float:
    """Return E[min(sure, minimum of ``drawn`` of ``tied``)], drawn without replacement; ``tied`` is ascending."""
    places = np.arange(len(tied))
    # The probability that none of the values up to a position is drawn.
    passed = np.cumprod(np.maximum(len(tied) - places - drawn, 0) / (len(tied) - places))
    first = np.concatenate(([1.0], passed[:-1])) - passed
    return float((first * np.minimum(sure, tied)).sum())
