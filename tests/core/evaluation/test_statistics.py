"""Intervals of proportions."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from automl_nas.evaluation.statistics import wilson_interval


@pytest.mark.parametrize("count", [1, 3, 10, 360, 10_000])
def test_wilson_intervals_are_those_of_scipy_and_end_at_zero_and_one(count: int) -> None:
    for successes in {0, 1, count // 3, count - 1, count}:
        expected = binomtest(successes, count).proportion_ci(method="wilson")
        low, high = wilson_interval(successes / count, count)
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson_interval(0.0, count)[0] == 0.0
    assert wilson_interval(1.0, count)[1] == 1.0
