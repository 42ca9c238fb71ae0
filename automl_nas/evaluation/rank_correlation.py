"""How well scores order values: Kendall's tau that treats tied scores as every order of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAIRWISE = 256
"""Number of values up to which all pairs are compared directly."""


def kendall_tau(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """Return Kendall's tau of scores and true values, as the mean over all orders of the items with equal scores.

    It is (concordant - discordant pairs) / pairs with different truths. A pair with equal scores counts 0, the mean of
    its two orders; a pair with equal truths has no right order and is left out. If all truths differ, this is the mean
    over all orders of the ties of Kendall's tau-a, and without any ties tau-a and tau-b. In general it is Somers' D of
    the scores given the truth (Somers 1962, "A new asymmetric measure of association for ordinal variables").

    Tau-b is not used: it divides by fewer pairs if scores are tied, so of two predictors that order equally many pairs
    rightly it prefers the one with more ties.

    Args:
        scores: shape ``(n,)``; larger is better.
        truth: shape ``(n,)``; larger is better.

    Returns:
        From -1 to 1; 0 for equal scores; NaN if no two truths differ.
    """
    comparable = _unequal_pairs(truth)
    if not comparable:
        return math.nan
    if len(scores) <= _PAIRWISE:
        # For small groups, SciPy's checks of its input take longer than comparing the pairs.
        one, other = (np.sign(np.subtract.outer(values, values)) for values in (scores, truth))
        return float((one * other).sum()) / 2 / comparable
    untied = _unequal_pairs(scores)
    if not untied:
        return 0.0
    from scipy.stats import kendalltau

    # SciPy counts the pairs in O(n log n) and divides by this root.
    tau_b = float(kendalltau(scores, truth, method="asymptotic").statistic)
    return round(tau_b * math.sqrt(untied * comparable)) / comparable


def _unequal_pairs(values: NDArray[Any]) -> int:
    """Return the number of pairs of different values."""
    counts: list[int] = np.unique(values, return_counts=True)[1].tolist()
    return (len(values) ** 2 - sum(count**2 for count in counts)) // 2
