"""How well one ranking agrees with another: measures, and their bootstrap intervals.

In all of them ``scores`` are what a predictor says and ``truth`` what is so, shape ``(n,)`` each, larger is better.
Where ties matter (a count of layers is all ties), a measure is its mean over all orders of the tied.
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
"""(scores, truth) -> value; NaN where it has none."""

_PAIRWISE = 256  # up to so many values all pairs are compared at once


def kendall_tau(scores: Values, truth: Values) -> float:
    """Return Kendall's tau-b: (concordant - discordant pairs) / the geometric mean of the untied pairs of either.

    NaN for fewer than two, or where one of the two is constant.
    """
    if _constant(scores) or _constant(truth):
        return float("nan")
    if len(scores) > _PAIRWISE:
        return float(stats.kendalltau(scores, truth, method="asymptotic").statistic)
    # SciPy checks its input for longer than a bootstrap of small groups takes to count the pairs.
    one, other = (np.sign(values[:, np.newaxis] - values) for values in (scores, truth))
    return float((one * other).sum() / np.sqrt(np.abs(one).sum() * np.abs(other).sum()))


def spearman(scores: Values, truth: Values) -> float:
    """Return Spearman's correlation of ranks, the tied given their mean rank; NaN as in `kendall_tau`."""
    if _constant(scores) or _constant(truth):
        return float("nan")
    one, other = (ranks - ranks.mean() for ranks in (_mean_ranks(scores), _mean_ranks(truth)))
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def precision_at(k: int) -> Measure:
    """Return the measure: the share of the k that score best that are among the truly k best, or as good as the last.

    A random order gives k / n where no truths are equal.
    """

    def precision(scores: Values, truth: Values) -> float:
        top = min(k, len(scores))
        if top == 0:
            return float("nan")
        return float(_chances(scores, top)[truth >= np.sort(truth)[-top]].sum()) / top

    return precision


def best_rank_at(k: int) -> Measure:
    """Return the measure: the true rank of the truly best one among the k that score best, 1 being the very best.

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
    """Return the rank of each, 1 for the best; equal ones share the best of theirs. Shape ``(n,)``."""
    ranks: Values = stats.rankdata(-truth, method="min").astype(np.float64)
    return ranks


def bootstrap(
    value: Callable[[int, Rows], float], *, runs: int, size: int, resamples: int, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of a value's mean over several runs.

    Architectures are drawn with replacement, the same for all runs; and of several runs (supernets trained from
    different seeds) as many are drawn with replacement, too. Resamples in which there is no value are left out; NaN
    where there is none in any.

    Args:
        value: (number of the run, numbers of the architectures that were drawn) -> value.
        runs: how many.
        size: how many architectures there are.
        resamples: how many times.
        seed: of the draws; with equal seeds, intervals of several values belong to the same draws.
        level: of confidence.
    """
    rng = np.random.default_rng(stream_seed(seed, "bootstrap"))
    found = []
    for _ in range(resamples):
        rows = rng.integers(size, size=size)
        drawn, counts = np.unique(rng.integers(runs, size=runs), return_counts=True)
        values = [value(int(run), rows) for run in drawn]
        found.append(float(np.average(values, weights=counts)))
    kept = np.array([each for each in found if not np.isnan(each)])
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _constant(values: Values) -> bool:
    return len(values) < 2 or bool(np.all(values == values[0]))


def _mean_ranks(values: Values) -> Values:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Values = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def _chances(values: Values, top: int) -> Values:
    """Return the probability of each to be among the ``top`` largest, the tied in random order."""
    border = np.sort(values)[-top]
    above, tied = values > border, values == border
    share = (top - int(above.sum())) / int(tied.sum())
    chances: Values = above + share * tied
    return chances


def _expected_least(sure: float, tied: Values, drawn: int) -> float:
    """Return E[min(sure, the least of ``drawn`` of ``tied``)], drawn without replacement; ``tied`` ascends."""
    places = np.arange(len(tied))
    # Given that all up to a place were passed over, the next one is passed over with this probability.
    passed = np.cumprod(np.maximum(len(tied) - places - drawn, 0) / (len(tied) - places))
    first = np.concatenate(([1.0], passed[:-1])) - passed
    return float((first * np.minimum(sure, tied)).sum())
