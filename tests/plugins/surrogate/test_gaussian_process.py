"""The Gaussian process against scikit-learn's and SciPy's, the acquisition against quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from automl_nas_surrogate.gaussian_process import (
    EVIDENCE,
    EVIDENCE_SPREAD,
    PRIOR,
    SPREAD,
    Array,
    GaussianProcess,
    Pairs,
    factor,
    fit,
    kernel,
    log_expected_improvement,
    negative_log_posterior,
    normal_scores,
    whiten,
)


def points(count: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Squared distances of random costs, no decisions, and values of a smooth function of the costs."""
    x = np.random.default_rng(seed).normal(size=(count, 2))
    y = np.sin(x[:, 0]) + 0.3 * x[:, 1]
    return ((x[:, None] - x[None]) ** 2).sum(-1), x, y - y.mean()


def test_prediction_is_that_of_another_library() -> None:
    squares, x, y = points(25)
    new = np.random.default_rng(1).normal(size=(7, 2))
    theta = (0.0, 0.2, math.log(0.03))
    lower = factor(kernel(Pairs(np.zeros_like(squares), squares), theta), theta)
    process = GaussianProcess(lower, y, np.zeros((25, 0)), theta)
    cross = Pairs(np.zeros((25, 7)), ((x[:, None] - new[None]) ** 2).sum(-1))
    mean, deviation = process.predict(np.linalg.solve(lower, kernel(cross, theta)), np.zeros((7, 0)))
    # Their kernel is exp(-d^2 / (2 l^2)); ours has no 2. The amplitude scales both parts of theirs.
    amplitude = process._amplitude
    theirs = ConstantKernel(amplitude) * RBF(math.exp(0.2) / math.sqrt(2)) + WhiteKernel(amplitude * 0.03)
    other = GaussianProcessRegressor(theirs, optimizer=None, alpha=amplitude * 1e-8).fit(x, y)
    expected, spread = other.predict(new, return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-7)
    # Theirs includes the noise of a new measurement.
    np.testing.assert_allclose(deviation**2 + amplitude * 0.03, spread**2, rtol=1e-5)


def test_with_evidence_it_is_the_process_with_one_kernel_for_all_of_it() -> None:
    """The reference has the covariances of decisions, costs and evidence in one matrix (equation 2.26 of the book)."""
    squares, x, y = points(25)
    rng = np.random.default_rng(1)
    new, of_x, of_new = rng.normal(size=(7, 2)), rng.normal(size=(25, 3)), rng.normal(size=(7, 3))
    theta = (0.3, 0.2, math.log(0.03), math.log(2.0))
    codes, new_codes = rng.integers(0, 3, (25, 5)), rng.integers(0, 3, (7, 5))
    apart, away = ((codes[:, None] != other[None]).mean(axis=2) for other in (codes, new_codes))
    own, cross = Pairs(apart, squares), Pairs(away, ((x[:, None] - new[None]) ** 2).sum(-1))
    expected = np.exp(-apart / math.exp(0.3) - squares / math.exp(0.4))
    np.testing.assert_allclose(kernel(own, theta), expected, rtol=1e-12)
    covariance = expected + 2 / 3 * of_x @ of_x.T + (0.03 + 1e-8) * np.eye(25)
    between = kernel(cross, theta) + 2 / 3 * of_x @ of_new.T
    amplitude = y @ np.linalg.solve(covariance, y) / 25
    variance = 1 + 2 / 3 * (of_new**2).sum(axis=1) - (between * np.linalg.solve(covariance, between)).sum(axis=0)
    lower = factor(kernel(own, theta), theta)
    process = GaussianProcess(lower, y, of_x, theta)
    mean, deviation = process.predict(np.linalg.solve(lower, kernel(cross, theta)), of_new)
    # The condition number of the covariances is 2e3, so 1e-9 leaves room for rounding alone.
    np.testing.assert_allclose(mean, between.T @ np.linalg.solve(covariance, y), rtol=1e-9)
    np.testing.assert_allclose(deviation, np.sqrt(amplitude * variance), rtol=1e-9)
    np.testing.assert_allclose(process.slopes, 2 / 3 * of_x.T @ np.linalg.solve(covariance, y), rtol=1e-9)


def test_single_precision_hardly_changes_predictions() -> None:
    """Random codes and their neighbours, with less noise than fits find; `whiten` names the bound.

    It follows from the condition number of the factor, at most 459, times 6e-8 and the norm of the whitened values.
    """
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (300, 20))
    new = np.concatenate([rng.integers(0, 4, (50, 20)), codes[:50]])
    new[50:, 7] = (new[50:, 7] + 1) % 4
    apart, away = ((codes[:, None] != other[None]).mean(axis=2) for other in (codes, new))
    values = normal_scores(list((codes == 0).sum(axis=1) + rng.normal(size=300)))
    for length in (0.2, 0.5, 3.0, 10.0):
        theta = (math.log(length), 0.0, math.log(3e-4))
        lower = factor(kernel(Pairs(apart), theta), theta)
        process = GaussianProcess(lower, values, np.zeros((300, 0)), theta)
        exact = process.predict(np.linalg.solve(lower, kernel(Pairs(away), theta)), np.zeros((100, 0)))
        single = whiten(lower.astype(np.float32), kernel(Pairs(away.astype(np.float32)), theta))
        assert single.dtype == np.float32
        mean, deviation = process.predict(single, np.zeros((100, 0)))
        assert np.all(np.abs(mean - exact[0]) < 0.01 * exact[1])
        np.testing.assert_allclose(deviation, exact[1], rtol=0.01)


@pytest.mark.parametrize("columns", [0, 2])
def test_posterior_density_is_that_of_the_multivariate_normal(columns: int) -> None:
    squares, _, y = points(12)
    nothing, x = np.zeros_like(squares), np.random.default_rng(2).normal(size=(12, columns))

    def reference(theta: tuple[float, ...]) -> float:
        matrix = kernel(Pairs(nothing, squares), theta) + (math.exp(theta[2]) + 1e-8) * np.eye(12)
        if columns:
            matrix += math.exp(theta[3]) / columns * x @ x.T
        amplitude = y @ np.linalg.solve(matrix, y) / 12
        _, determinant = np.linalg.slogdet(amplitude * matrix)
        likelihood = -0.5 * (y @ np.linalg.solve(amplitude * matrix, y)) - 0.5 * determinant - 6 * math.log(2 * math.pi)
        prior_density = sum(norm(m, s).logpdf(t) for t, m, s in zip(theta[:3], PRIOR, SPREAD, strict=True))
        # Both halves of the prior of v have their largest density at its mean, so its constant cancels.
        of_evidence = sum(-0.5 * ((t - EVIDENCE) / EVIDENCE_SPREAD[t < EVIDENCE]) ** 2 for t in theta[3:])
        return float(likelihood + prior_density + of_evidence)

    first, second = (0.1, -0.3, -2.0, 2.0)[: 3 + (columns > 0)], (-1.0, 0.5, -4.0, -1.0)[: 3 + (columns > 0)]
    ours = [negative_log_posterior(Pairs(nothing, squares), y, x, theta) for theta in (first, second)]
    assert ours[0] - ours[1] == pytest.approx(reference(second) - reference(first), abs=1e-6)


def test_fit_finds_what_made_the_data() -> None:
    """Values drawn with little noise and a long length are not taken for noise with a short one."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2))
    squares = ((x[:, None] - x[None]) ** 2).sum(-1)
    drawn = np.linalg.cholesky(np.exp(-squares / 4) + 1e-4 * np.eye(60)) @ rng.normal(size=60)
    theta = fit(Pairs(np.zeros_like(squares), squares), drawn - drawn.mean(), np.zeros((60, 0)))
    # Within a factor of two: 60 points say no more about a length.
    assert abs(theta[1] - math.log(2)) < math.log(2)
    assert theta[2] < math.log(0.01)


@pytest.mark.parametrize(("mean", "deviation"), [(0.3, 0.5), (-1.0, 0.7), (-4.0, 0.5), (2.0, 1e-3)])
def test_expected_improvement_is_its_integral(mean: float, deviation: float) -> None:
    def improvement(value: float) -> float:
        return max(value - 0.5, 0.0) * float(norm(mean, deviation).pdf(value))

    expected, _ = quad(improvement, max(0.5, mean - 12 * deviation), max(0.5, mean) + 12 * deviation, epsabs=1e-60)
    improvement = log_expected_improvement(np.array([mean]), np.array([deviation]), 0.5)
    assert improvement[0] == pytest.approx(math.log(expected), abs=1e-6)


def test_hopeless_candidates_are_still_ordered() -> None:
    z = -np.linspace(5, 60, 400)
    improvement = log_expected_improvement(z, np.ones_like(z), 0.0)
    assert np.isfinite(improvement).all()
    assert (np.diff(improvement) < 0).all()
    # log(phi(z) / z^2) plus terms of order 1 / z^2 (Mills' ratio).
    np.testing.assert_allclose(improvement, norm.logpdf(z) - 2 * np.log(-z), atol=3.5 / 25)


def test_scores_depend_on_the_order_alone() -> None:
    first, second = normal_scores([0.1, 5.0, 3.0, 3.0, 900.0]), normal_scores([-9, 2, 1, 1, 3])
    np.testing.assert_array_equal(first, second)
    assert first[2] == first[3]
    assert first.mean() == pytest.approx(0, abs=1e-12)
    assert first.std() == pytest.approx(1)
    np.testing.assert_array_equal(normal_scores([1, 1]), [0, 0])
