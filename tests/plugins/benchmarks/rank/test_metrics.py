"""The measures of a ranking, against their definitions by brute force, SciPy and the bootstrap's known limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats

from automl_nas.evaluation import kendall_tau
from automl_nas_benchmarks.rank.metrics import (
    Rows,
    Values,
    best_rank_at,
    bootstrap,
    precision_at,
    spearman,
    true_ranks,
)
from automl_nas_benchmarks.rank.search_outcomes import expected_maximum

# Few different numbers, so that ties are the rule.
few = st.integers(0, 3)
pairs = st.lists(st.tuples(few, few), min_size=2, max_size=6)
cheap = settings(max_examples=40, deadline=None)


def columns(drawn: list[tuple[int, int]]) -> tuple[Values, Values]:
    array = np.array(drawn, dtype=np.float64)
    return array[:, 0], array[:, 1]


def orders(values: Values) -> list[list[int]]:
    """Return every order, best first, that agrees with the values; the tied in all their orders."""
    everything = itertools.permutations(range(len(values)))
    return [list(order) for order in everything if all(np.diff(values[list(order)]) <= 0)]


@cheap
@given(pairs)
def test_spearman_is_the_correlation_of_mean_ranks(drawn: list[tuple[int, int]]) -> None:
    scores, truth = columns(drawn)
    if np.ptp(scores) == 0 or np.ptp(truth) == 0:
        assert math.isnan(spearman(scores, truth))
    else:
        ranks = stats.rankdata(scores), stats.rankdata(truth)
        assert spearman(scores, truth) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)


@cheap
@given(pairs, st.integers(1, 7))
def test_precision_at_k_is_the_mean_over_all_orders_of_ties(drawn: list[tuple[int, int]], k: int) -> None:
    scores, truth = columns(drawn)
    top = min(k, len(scores))
    good = set(np.flatnonzero(truth >= sorted(truth)[-top]))
    shares = [len(set(order[:top]) & good) / top for order in orders(scores)]
    assert precision_at(k)(scores, truth) == pytest.approx(np.mean(shares), abs=1e-12)


@cheap
@given(pairs, st.integers(1, 7))
def test_best_rank_at_k_is_the_mean_over_all_orders_of_ties(drawn: list[tuple[int, int]], k: int) -> None:
    scores, truth = columns(drawn)
    ranks = [1 + sum(truth > value) for value in truth]
    assert true_ranks(truth).tolist() == ranks
    best = [min(ranks[item] for item in order[:k]) for order in orders(scores)]
    assert best_rank_at(k)(scores, truth) == pytest.approx(np.mean(best), abs=1e-12)


@pytest.mark.parametrize("count", [2, 3, 40, 256, 257, 400])
@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_spearman_is_that_of_scipy(count: int, levels: int) -> None:
    rng = np.random.default_rng(count)
    truth = rng.integers(levels, size=count).astype(np.float64)
    scores = truth + rng.integers(levels, size=count)
    truth[:2], scores[:2] = (0, 1), (1, 0)  # not constant
    if count == 2:
        assert spearman(scores, truth) == -1
        return
    assert spearman(scores, truth) == pytest.approx(stats.spearmanr(scores, truth).statistic, abs=1e-12)


def test_measures_of_perfect_reversed_and_constant_scores() -> None:
    truth = np.arange(50.0)
    shuffled = np.random.default_rng(0).permutation(50).astype(np.float64)
    for correlation in (kendall_tau, spearman):
        assert correlation(truth, truth) == pytest.approx(1, abs=1e-12)
        assert correlation(-truth, truth) == pytest.approx(-1, abs=1e-12)
    assert precision_at(10)(truth, truth) == 1
    assert precision_at(10)(-truth, truth) == 0
    assert best_rank_at(10)(truth, truth) == 1
    assert best_rank_at(10)(-truth, truth) == 41
    assert precision_at(50)(shuffled, truth) == 1
    # A predictor that says nothing gives what a random order gives: k / n, and (n + 1) / (k + 1) on average.
    nothing = np.zeros(50)
    assert precision_at(10)(nothing, truth) == pytest.approx(10 / 50)
    assert best_rank_at(10)(nothing, truth) == pytest.approx(51 / 11)
    assert kendall_tau(nothing, truth) == 0
    assert math.isnan(kendall_tau(truth, nothing))


@cheap
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=7), st.integers(1, 7))
def test_expected_maximum_is_the_mean_over_all_subsets(values: list[float], k: int) -> None:
    k = min(k, len(values))
    best = [max(subset) for subset in itertools.combinations(values, k)]
    assert expected_maximum(np.sort(values), k) == pytest.approx(np.mean(best), abs=1e-9)


def test_bootstrap_of_a_mean_matches_theory() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap(lambda run, rows: float(values[rows].mean()), runs=1, size=400, resamples=2000, seed=0)
    error = values.std() / 20
    # The normal approximation of a mean of 400 is good to a percent; quantiles of 2,000 resamples scatter by about
    # sqrt(0.025 * 0.975 / 2000) / density(1.96) = 0.06 standard errors; four times that.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_bootstrap_draws_runs() -> None:
    levels = np.array([0.0, 1.0])

    def level(run: int, rows: Rows) -> float:
        return float(levels[run])

    # With two runs the mean is 0, 1/2 or 1, with chances 1/4, 1/2 and 1/4: a half interval contains the middle only.
    assert bootstrap(level, runs=2, size=5, resamples=400, seed=0) == (0, 1)
    assert bootstrap(level, runs=2, size=5, resamples=400, seed=0, level=0.3) == (0.5, 0.5)


def test_bootstrap_depends_on_its_seed() -> None:
    values = np.random.default_rng(0).normal(size=30)

    def interval(seed: int) -> tuple[float, float]:
        return bootstrap(lambda run, rows: float(values[rows].mean()), runs=1, size=30, resamples=50, seed=seed)

    assert interval(1) == interval(1) != interval(2)


def test_bootstrap_omits_resamples_without_a_value() -> None:
    low, high = bootstrap(lambda run, rows: float("nan"), runs=1, size=5, resamples=10, seed=0)
    assert math.isnan(low) and math.isnan(high)
    low, high = bootstrap(lambda run, rows: float("nan") if 0 in rows else 3.0, runs=1, size=5, resamples=50, seed=0)
    assert (low, high) == (3, 3)
