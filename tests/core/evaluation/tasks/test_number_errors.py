"""The metrics of resamples against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from automl_nas.evaluation.tasks.number_errors import mae, r2, rmse


@pytest.mark.parametrize("numbers", [1, 3])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("right", [False, True])
def test_as_in_scikit_learn(numbers: int, constant: bool, right: bool) -> None:
    generator = np.random.default_rng(numbers)
    targets = generator.normal(size=(40, numbers))
    if constant:
        targets[:, 0] = 0.5  # a power of two: the weighted mean of equal numbers is exact
    outputs = targets.copy() if right else targets + generator.normal(size=targets.shape)
    weights = generator.integers(1, 5, 40).astype(float)
    for own, reference in ((rmse, root_mean_squared_error), (mae, mean_absolute_error), (r2, r2_score)):
        expected = reference(targets, outputs, sample_weight=weights)
        # Two orders of summing 40 numbers of size 1 in float64.
        assert own(targets, outputs, weights) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_one_sample_has_no_coefficient_of_determination() -> None:
    assert np.isnan(r2(np.ones((1, 2)), np.ones((1, 2)), np.ones(1)))
