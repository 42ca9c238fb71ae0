"""Kendall's tau: against every order of the ties, and against SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from automl_nas.evaluation import kendall_tau

Values = NDArray[np.float64]


def tau_a(order: tuple[int, ...], truth: Values) -> float:
    """Return tau-a of an order of the items, the best last, and their distinct true values."""
    pairs = list(itertools.combinations(order, 2))
    return float(np.mean([1 if truth[low] < truth[high] else -1 for low, high in pairs]))


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_it_is_the_mean_of_tau_a_over_all_orders_of_the_tied_scores(count: int, levels: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng([count, levels, seed])
        scores = rng.integers(levels, size=count).astype(float)
        truth = rng.permutation(count).astype(float)
        orders = [
            order
            for order in itertools.permutations(range(count))
            if all(scores[one] <= scores[next_one] for one, next_one in itertools.pairwise(order))
        ]
        expected = np.mean([tau_a(order, truth) for order in orders])
        assert kendall_tau(scores, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [3, 50, 256, 257, 1000])
def test_without_ties_it_is_tau_b_and_with_ties_somers_d(count: int) -> None:
    rng = np.random.default_rng(count)
    truth = rng.normal(size=count)
    scores = truth + rng.normal(size=count)
    assert kendall_tau(scores, truth) == pytest.approx(stats.kendalltau(scores, truth).statistic, abs=1e-12)
    tied, tied_truth = np.round(scores), np.round(truth)
    assert kendall_tau(tied, tied_truth) == pytest.approx(stats.somersd(tied_truth, tied).statistic, abs=1e-12)


@pytest.mark.parametrize("count", [10, 300])
def test_orders_that_are_perfect_reversed_and_absent(count: int) -> None:
    truth = np.arange(count) // 2
    assert kendall_tau(truth, truth) == 1
    assert kendall_tau(-truth, truth) == -1
    assert kendall_tau(np.zeros(count), truth) == 0
    assert math.isnan(kendall_tau(truth, np.zeros(count)))
    assert math.isnan(kendall_tau(truth[:1], truth[:1]))


def test_ties_are_worth_the_mean_of_their_orders() -> None:
    """Tau-b gives 0.89 for the tied scores: more than their four orders have on average."""
    truth = np.arange(5)
    orders = [np.array([*first, 2, *last]) for first in ((0, 1), (1, 0)) for last in ((3, 4), (4, 3))]
    assert [kendall_tau(scores, truth) for scores in orders] == pytest.approx([1.0, 0.8, 0.8, 0.6])
    assert kendall_tau(np.array([0, 0, 2, 3, 3]), truth) == pytest.approx(0.8)
