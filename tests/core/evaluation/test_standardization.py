"""Mean and deviation as scikit-learn's `StandardScaler` has them, of numbers that vary and of numbers that do not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from automl_nas.evaluation import mean_and_deviation, varies


def test_columns_are_standardised_as_by_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    constant = [0.1, 0.3, -123.456, 1e-300, 0.0, 7.0]
    values = np.column_stack(
        [*(np.full(201, value) for value in constant), draws.normal(5, 3, 201), 1e6 + draws.normal(0, 1e-3, 201)]
    )
    scaler = StandardScaler().fit(values)
    mean, deviation = mean_and_deviation(values)
    assert values.std(0)[0] > 0  # the fault of dividing by it: 0.1 is not summed exactly
    assert mean[:6].tolist() == constant
    np.testing.assert_allclose(mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(deviation, scaler.scale_, rtol=1e-9)
    assert varies(values).tolist() == [False] * 6 + [True] * 2


@pytest.mark.parametrize("axes", [0, (0, 2), (0, 2, 3)])
def test_any_axes_are_averaged(axes: int | tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(2, 3, (6, 5, 4, 3))
    mean, deviation = mean_and_deviation(values, axes)
    np.testing.assert_array_equal(mean, values.mean(axes))
    np.testing.assert_array_equal(deviation, values.std(axes))


def test_a_difference_by_rounding_is_none() -> None:
    values = np.where(np.arange(50) % 2, 0.1 + 0.2, 0.3)
    assert len(set(values.tolist())) == 2
    mean, deviation = mean_and_deviation(values)
    assert (mean, deviation) == (pytest.approx(0.3), 1.0)
    assert mean_and_deviation(np.array([0.3, 0.3 + 1e-9]))[1] == pytest.approx(5e-10, rel=1e-6)
