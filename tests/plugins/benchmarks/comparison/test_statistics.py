"""Ranks and tests against scipy and the worked example of Demšar 2006 (JMLR 7, 1-30)."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from scipy import stats

from automl_nas_benchmarks.comparison.statistics import (
    censored_quantile,
    compare_pairs,
    critical_difference,
    friedman,
    friedman_of,
    groups,
    holm,
    hypervolume,
    ranks,
    wilcoxon,
)

# Table 6 of the paper: AUC of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.975, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
MEAN_RANKS = (3.143, 2.000, 2.893, 1.964)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_ranks_are_those_of_the_paper() -> None:
    own_ranks = ranks(-AUC)
    # In the 13th row the paper ranks 2 and 3 what its rounded numbers say is equal.
    assert own_ranks[12].tolist() == [4, 1, 2.5, 2.5]
    own_ranks[12] = [4, 1, 2, 3]
    assert own_ranks.mean(axis=0) == pytest.approx(MEAN_RANKS, abs=5e-4)


def test_friedman_and_iman_davenport_are_those_of_the_paper() -> None:
    result = friedman_of(MEAN_RANKS, 14)
    assert result.chi2 == pytest.approx(9.28, abs=0.01)
    assert result.f == pytest.approx(3.69, abs=0.01)
    # "The critical value of F(3, 39) for alpha = 0.05 is 2.85, so we reject."
    assert stats.f.isf(0.05, 3, 39) == pytest.approx(2.85, abs=0.01)
    assert result.f_p == pytest.approx(stats.f.sf(3.69, 3, 39), abs=1e-3)


def test_friedman_with_ties_is_that_of_scipy() -> None:
    for losses in (-AUC, rng(0).normal(size=(30, 5)), rng(1).integers(0, 3, size=(40, 6)).astype(float)):
        statistic, p = stats.friedmanchisquare(*losses.T)
        result = friedman(losses)
        assert result.chi2 == pytest.approx(statistic)
        assert result.chi2_p == pytest.approx(p)
        assert result.blocks == len(losses)


def test_friedman_of_two_is_the_sign_test_in_its_chi_squared_form() -> None:
    losses = np.array([[0.0, 1.0]] * 17 + [[1.0, 0.0]] * 8)
    assert friedman(losses).chi2 == pytest.approx((17 - 8) ** 2 / 25)


def test_friedman_at_its_limits() -> None:
    same = friedman(np.zeros((5, 3)))
    assert (same.chi2, same.chi2_p, same.mean_ranks) == (0, 1, (2, 2, 2))
    always = friedman(np.tile([0.0, 1.0, 2.0], (5, 1)))
    assert (always.chi2, always.f, always.f_p) == (10, math.inf, 0)


# Table 5(a) of the paper: critical values q of the two-tailed Nemenyi test, for 2 to 10 classifiers.
@pytest.mark.parametrize(
    ("alpha", "critical"),
    [
        (0.05, [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]),
        (0.10, [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]),
    ],
)
def test_critical_differences_are_those_of_the_paper(alpha: float, critical: list[float]) -> None:
    for k, q in enumerate(critical, start=2):
        # With n = k (k + 1) / 6 blocks the difference is q itself. The paper's last digit is off by one in places.
        assert critical_difference(k, 1, alpha) / math.sqrt(k * (k + 1) / 6) == pytest.approx(q, abs=1.5e-3)


def test_the_example_of_the_paper_is_grouped_as_there() -> None:
    assert critical_difference(4, 14, 0.05) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.10) == pytest.approx(1.12, abs=0.005)
    # "At p = 0.10 ... C4.5 is significantly worse than C4.5+m and C4.5+m+cf" (figure 1a).
    assert groups(MEAN_RANKS, critical_difference(4, 14, 0.10)) == [(3, 1, 2), (2, 0)]
    assert groups(MEAN_RANKS, critical_difference(4, 14, 0.05)) == [(3, 1, 2, 0)]


def test_groups_are_the_largest_sets_within_the_difference() -> None:
    draw = random.Random(0)
    for _ in range(200):
        means = [round(draw.uniform(1, 6), 1) for _ in range(draw.randint(1, 6))]
        difference = draw.choice([0.0, 0.5, 1.0, 3.0])
        sets = [
            frozenset(chosen)
            for size in range(2, len(means) + 1)
            for chosen in itertools.combinations(range(len(means)), size)
            if max(means[i] for i in chosen) - min(means[i] for i in chosen) <= difference
        ]
        largest = {one for one in sets if not any(one < other for other in sets)}
        assert {frozenset(group) for group in groups(means, difference)} == largest


def test_wilcoxon_agrees_with_the_paper() -> None:
    first, second = -AUC[:, 0], -AUC[:, 1]
    # Section 3.1.3: R+ = 93, R- = 12, where both hold half of the ranks of the two zeros, 1.5; so T = 12, and with a
    # critical value of 21 for 14 data sets the paper rejects at 0.05.
    assert stats.wilcoxon(first - second, zero_method="zsplit").statistic == 12
    assert wilcoxon(first, second) < 0.05


@pytest.mark.parametrize("size", [1, 2, 9, 30, 50])
def test_wilcoxon_without_ties_is_the_exact_one_of_scipy(size: int) -> None:
    draw = rng(size)
    for shift in (0.0, 0.5):
        first, second = draw.normal(size=size) + shift, draw.normal(size=size)
        assert wilcoxon(first, second) == pytest.approx(stats.wilcoxon(first, second, method="exact").pvalue)


def test_wilcoxon_with_ties_and_zeros_is_that_of_trying_all_signs() -> None:
    draw = rng(5)
    for _ in range(40):
        first, second = draw.integers(0, 4, size=9), draw.integers(0, 4, size=9)
        sizes = stats.rankdata(np.abs(first - second)) * (first != second)

        def distance(signs: tuple[int, ...], sizes: np.ndarray = sizes) -> float:
            return abs(float((sizes * signs).sum()))

        seen = distance(tuple(np.sign(first - second)))
        all_signs = list(itertools.product((-1, 1), repeat=9))
        share = sum(distance(signs) >= seen - 1e-9 for signs in all_signs) / len(all_signs)
        assert wilcoxon(first, second) == pytest.approx(share)


def test_wilcoxon_of_many_blocks_is_the_approximation_of_scipy() -> None:
    draw = rng(6)
    first, second = draw.normal(size=800), draw.normal(size=800) + 0.05
    first[:100] = second[:100]
    expected = stats.wilcoxon(first, second, zero_method="pratt", method="asymptotic").pvalue
    assert wilcoxon(first, second) == pytest.approx(expected)
    # And where it takes over from the exact one, both are close.
    assert wilcoxon(first[:595], second[:595]) == pytest.approx(
        stats.wilcoxon(first[:595], second[:595], zero_method="pratt", method="asymptotic").pvalue, rel=0.01
    )


def test_wilcoxon_of_equal_strategies_is_certain() -> None:
    assert wilcoxon(np.ones(9), np.ones(9)) == 1


def test_wilcoxon_keeps_its_error() -> None:
    # Under equality 5 % are rejected: 400 tests give 20 +- 4.4, and 4 standard deviations are 18.
    draw = rng(3)
    rejected = sum(wilcoxon(draw.exponential(size=40), draw.exponential(size=40)) < 0.05 for _ in range(400))
    assert abs(rejected - 20) < 18


def test_holm_is_that_of_the_paper() -> None:
    # Section 3.2.2: z against C4.5 with a standard error of 0.488, p = 0.016, 0.019, 0.607: the first two are rejected.
    p_values = [2 * float(stats.norm.sf((3.143 - mean) / 0.488)) for mean in (1.964, 2.000, 2.893)]
    # The paper rounds z before it looks p up.
    assert p_values == pytest.approx([0.016, 0.019, 0.607], abs=2e-3)
    assert holm(p_values) == pytest.approx([3 * p_values[0], 3 * p_values[0], p_values[2]], abs=2e-3)
    assert [p < 0.05 for p in holm(p_values)] == [True, True, False]


def test_holm_rejects_what_stepping_down_rejects() -> None:
    draw = random.Random(1)
    for _ in range(300):
        p_values = [draw.random() ** 3 for _ in range(draw.randint(1, 7))]
        alpha = draw.choice([0.01, 0.05, 0.2])
        rejected = set()
        for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[place] > alpha / (len(p_values) - step):
                break
            rejected.add(place)
        assert {place for place, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_pairs_count_wins_and_are_corrected_together() -> None:
    losses = rng(2).normal(size=(25, 3)) + np.array([0.0, 0.0, 1.5])
    pairs = compare_pairs(losses)
    assert [(pair.first, pair.second) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    for pair in pairs:
        assert pair.wins + pair.losses == 25
        assert pair.wins == sum(losses[:, pair.first] < losses[:, pair.second])
        assert pair.p == pytest.approx(wilcoxon(losses[:, pair.first], losses[:, pair.second]))
    assert [pair.adjusted for pair in pairs] == pytest.approx(holm([pair.p for pair in pairs]))


def test_quantiles_count_those_that_never_arrive() -> None:
    assert censored_quantile([5, 1, 3, None], 0.5) == 3
    assert censored_quantile([5, 1, 3, None], 0.75) == 5
    assert censored_quantile([5, 1, None, None], 0.75) is None
    assert censored_quantile([None], 0.5) is None
    assert censored_quantile([7], 0.75) == 7


def test_quantiles_without_censoring_are_those_of_numpy() -> None:
    draw = rng(4)
    for size in (1, 2, 7, 100):
        times = draw.integers(1, 300, size=size).tolist()
        for share in (0.25, 0.5, 0.75, 1.0):
            assert censored_quantile(times, share) == np.quantile(times, share, method="inverted_cdf")


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_is_that_of_counting_cells(objectives: int) -> None:
    draw = random.Random(objectives)
    for _ in range(20):
        points = [[draw.randint(-1, 5) for _ in range(objectives)] for _ in range(draw.randint(0, 6))]
        cells = itertools.product(range(5), repeat=objectives)
        covered = sum(any(all(x > low for x, low in zip(p, cell, strict=True)) for p in points) for cell in cells)
        # Points below the reference in one coordinate dominate no cell above it.
        assert hypervolume(points, [0] * objectives) == covered
