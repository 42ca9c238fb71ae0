"""scikit-learn's own checks of estimators, and results beside those of known models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plugins.estimators.fast import fast
from sklearn.datasets import load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from automl_nas_estimators import NASClassifier, NASRegressor

# Shorter trainings of smaller networks than the chosen ones; a network must still learn blobs and a line.
SPACE = {"name": "mlp", "width": 16, "blocks": 1, "hidden_widths": [16, 32], "activations": ["relu", "tanh"]}
SECTIONS = {**fast(2, 12), "space": SPACE}
CHECKED = [NASClassifier(progress="none", sections=SECTIONS), NASRegressor(progress="none", sections=SECTIONS)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the checks pass what scikit-learn warns of
@parametrize_with_checks(CHECKED)
def test_check_estimator(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
def test_digits_are_classified_as_well_as_by_logistic_regression() -> None:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    known = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x_train, y_train)
    classifier = NASClassifier(random_state=0, progress="none").fit(x_train, y_train)
    # Both err on some 10 of the 360 images. The difference of two such counts has a deviation of sqrt(10 + 10) = 4.5
    # images at most, which is 0.0125; two of them.
    assert classifier.score(x_test, y_test) > known.score(x_test, y_test) - 2 * 0.0125
    report = classifier.result_.final
    assert report is not None
    low, high = report.delivered.test_interval["accuracy"]
    assert low <= report.delivered.test["accuracy"] <= high


@pytest.mark.slow
def test_the_error_of_a_regression_is_that_of_the_noise() -> None:
    """With targets ``f(x) + noise`` the smallest possible mean squared error is the variance of the noise."""
    rng = np.random.default_rng(0)
    deviation = 0.5
    x, new = rng.normal(size=(600, 3)), rng.normal(size=(4000, 3))

    def f(values: Any) -> Any:
        return 3 * values[:, 0] - 2 * np.abs(values[:, 1]) + 1

    regressor = NASRegressor(random_state=0, progress="none").fit(x, f(x) + deviation * rng.normal(size=600))
    excess = float(((regressor.predict(new) - f(new)) ** 2).mean())
    # In variances of the noise, a network that memorised the nearest targets would add 1, the mean of the targets adds
    # (9 + 4 * (1 - 2 / pi)) / 0.25 = 42, and a linear model cannot represent |x|: 4 * (1 - 2 / pi) / 0.25 = 5.8.
    assert excess < deviation**2 / 2
    linear = LinearRegression().fit(x, f(x))
    assert float(((linear.predict(new) - f(new)) ** 2).mean()) > 5 * deviation**2
