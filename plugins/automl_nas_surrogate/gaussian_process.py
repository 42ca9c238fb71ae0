"""A Gaussian process over architectures: kernel, hyper-parameters, predictions and expected improvement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.blas import strsm
from scipy.linalg.lapack import dpotrf, dtrtrs
from scipy.special import log_ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Single: TypeAlias = NDArray[np.float32]
Theta: TypeAlias = tuple[float, ...]
"""Hyper-parameters: the logarithms of the length scales of decisions (l1) and costs (l2), of the noise variance, and,
with evidence, of the variance that a linear function of it explains (v)."""

PRIOR: Theta = (math.log(0.5), 0.0, math.log(0.05))
"""Prior means of the hyper-parameters without evidence: architectures that differ in half of their decisions, or by one
standard deviation of the costs, are still correlated; a twentieth of the variance is noise. The prior standard
deviations are `SPREAD`; they are large, so the prior only matters for fits to few points."""

SPREAD: Theta = (1.0, 1.0, 1.5)

EVIDENCE = math.log(3.0)
"""Prior mean of the logarithm of v: evidence explains three quarters of the variance, which a rank correlation of 0.87
with the results does."""

EVIDENCE_SPREAD: tuple[float, float] = (1.5, 4.0)
"""Prior standard deviations of the logarithm of v above and below its mean. Small values are hardly less likely, so
that a few results suffice to ignore evidence that does not predict."""

_LEAST = 1e-6  # variance of a prediction, as a share of the amplitude: what single precision leaves

_MOVES = 8  # hyper-parameters whose parts are stored during a fit: more than a round tries before it uses one again
_ROUNDS = 6  # rounds of coordinate search: the posterior is smooth, and a rough optimum gives equally good searches


def normal_scores(ranked: Sequence[object]) -> Array:
    """Return standardised normal quantiles of the ranks: larger values get larger scores, equal values equal scores.

    So the model learns the order of accuracies only. Otherwise the distance of the worst accuracies from the others
    would dominate the fit.

    Args:
        ranked: values that can be compared, one for each architecture.

    Returns:
        The scores, shape ``(n,)``, with mean 0.
    """
    places = {value: place for place, value in enumerate(sorted(set(ranked)))}  # type: ignore[type-var]
    dense = np.array([places[value] for value in ranked])
    ascending = np.sort(dense)
    ranks = (np.searchsorted(ascending, dense, "left") + np.searchsorted(ascending, dense, "right") + 1) / 2
    scores = normal_quantiles(ranks, len(dense))
    spread = float(scores.std())
    standard: Array = (scores - scores.mean()) / (spread if spread > 0 else 1.0)
    return standard


def normal_quantiles(ranks: Array, counts: int | Sequence[int]) -> Array:
    """Return the normal quantiles of ranks; NaN stays NaN.

    Args:
        ranks: from 1 on, equal values have their mean rank, shape ``(k,)``, or ``(k, columns)``.
        counts: the number of ranked values, of each column.

    Returns:
        Of the shape of the ranks.
    """
    quantiles: Array = ndtri((ranks - 0.5) / counts)
    return quantiles


def prior(evidence: bool) -> Theta:
    """Return the prior means of the hyper-parameters.

    Args:
        evidence: whether there is any.
    """
    return (*PRIOR, EVIDENCE) if evidence else PRIOR


@final
@dataclass(frozen=True)
class Pairs:
    """How n architectures compare with m architectures.

    Attributes:
        decisions: distances of the decisions, 0 to 1, shape ``(n, m)``.
        costs: squared distances, shape ``(n, m)``; None: no costs.
    """

    decisions: NDArray[Any]
    costs: NDArray[Any] | None = None

    def of(self, rows: slice, columns: slice = slice(None)) -> Pairs:
        """Return those of some of the n with some of the m architectures."""
        return Pairs(self.decisions[rows, columns], None if self.costs is None else self.costs[rows, columns])


def kernel(pairs: Pairs, theta: Theta) -> NDArray[Any]:
    """Return ``exp(-decisions / l1 - costs / l2^2)``.

    The first factor of the exponential is a kernel of Hamming distances (a product over decisions, each equal or not),
    the other a Gaussian kernel of the costs.

    Args:
        pairs: n architectures compared with m.
        theta: hyper-parameters.

    Returns:
        The covariances, shape ``(n, m)``, in the precision of the pairs.
    """
    exponent = pairs.decisions * -math.exp(-theta[0])
    if pairs.costs is not None:
        exponent -= pairs.costs * math.exp(-2 * theta[1])
    covariances: NDArray[Any] = np.exp(exponent, out=exponent)
    return covariances


def noise(theta: Theta) -> float:
    """Return the variance of the noise, and a little more, so that covariances of equal architectures have a factor."""
    return math.exp(theta[2]) + 1e-8


def factor(covariances: Array, theta: Theta) -> Array:
    """Return the lower Cholesky factor of covariances of n architectures with the noise added, shape ``(n, n)``.

    Args:
        covariances: as `kernel` returns them; they are overwritten.
        theta: hyper-parameters.

    Raises:
        LinAlgError: the matrix is not positive definite.
    """
    covariances[np.diag_indices_from(covariances)] += noise(theta)
    lower: Array
    # The functions of LAPACK are called themselves: those of scipy take longer than they do for small matrices.
    lower, info = dpotrf(covariances.T, lower=1, clean=1, overwrite_a=1)
    if info:
        raise LinAlgError("the covariances are not positive definite")
    return lower


def solved(lower: Array, right: Array) -> Array:
    """Return ``L^-1 B``, of the shape of B, ``(n,)`` or ``(n, k)``, where L is a lower triangular matrix."""
    solution: Array = dtrtrs(lower, right, lower=1)[0]
    return solution


def whiten(lower: Single, covariances: Single) -> Single:
    """Return the covariances, shape ``(n, m)``, of n architectures with m others, whitened: ``L^-1 K``.

    Single precision takes half of the time. With 300 architectures and a noise variance of 3e-4, less than fits find,
    rounding changes predicted means and deviations by less than a hundredth of the deviations.

    Args:
        lower: L, where ``L L'`` are the covariances of the n with the noise, shape ``(n, n)``.
        covariances: K; they are overwritten.
    """
    if not covariances.size:  # BLAS refuses empty matrices
        return covariances
    # X L' = K' has the rows of K as they are in memory: no copy, a sixth faster than solving L X = K.
    whitened: Single = strsm(1.0, lower, covariances.T, side=1, lower=1, trans_a=1).T
    return whitened


@final
class Trend:
    """Bayesian linear regression on evidence: the part of the model that does not depend on decisions and costs.

    The coefficient of each of d columns has the prior variance v / d, so the whole process has the kernel of decisions
    and costs plus ``v x x' / d``: evidence is the trend, and decisions and costs explain what differs from it. Given
    the factor of the kernel, the posterior of d coefficients is all that is needed (Rasmussen and Williams 2006,
    section 2.7, equations 2.41 and 2.42), and the factor does not change when the evidence does.

    Attributes:
        coefficients: their expected values, shape ``(d,)``.
        covariance: of the coefficients, up to the amplitude, shape ``(d, d)``.
        residual: ``y' A^-1 y``, where A are the covariances with the trend.
        log_determinant: half of the logarithm of the determinant of A over that without the trend.

    Args:
        values: of n architectures, whitened, shape ``(n,)``.
        evidence: of the architectures, whitened, shape ``(n, d)``.
        theta: hyper-parameters.
    """

    def __init__(self, values: Array, evidence: Array, theta: Theta) -> None:
        self.residual, self.log_determinant = float(values @ values), 0.0
        self.coefficients, self.covariance = np.zeros(0), np.zeros((0, 0))
        if columns := evidence.shape[1]:
            variance = math.exp(theta[3]) / columns
            scale = np.linalg.cholesky(np.eye(columns) + variance * (evidence.T @ evidence))
            inverse = solved(scale, np.eye(columns))
            self.covariance = variance * (inverse.T @ inverse)
            common = values @ evidence
            self.coefficients = self.covariance @ common
            self.residual -= float(common @ self.coefficients)
            self.log_determinant = float(np.log(np.diag(scale)).sum())


def negative_log_posterior(pairs: Pairs, values: Array, evidence: Array, theta: Theta) -> float:
    """Return ``-log p(theta | values)`` up to a constant, maximised over the amplitude.

    Rasmussen and Williams 2006, section 5.4.

    Args:
        pairs: n architectures compared with each other.
        values: the scores of the architectures, shape ``(n,)``.
        evidence: of the architectures, shape ``(n, d)``.
        theta: hyper-parameters.

    Returns:
        Infinity if the covariance matrix is not positive definite.
    """
    return _posterior(pairs, values, evidence)(theta)


def _posterior(pairs: Pairs, values: Array, evidence: Array) -> Callable[[Theta], float]:
    """Return `negative_log_posterior` as a function of theta; a coordinate search changes one entry at a time."""
    both = np.column_stack([values, evidence])

    @lru_cache(_MOVES)
    def covariances(theta: Theta) -> Array:
        return kernel(pairs, theta)

    @lru_cache(_MOVES)
    def whitened(theta: Theta) -> tuple[Array, float] | None:
        try:
            lower = factor(covariances(theta[:2]).copy(), theta)
        except LinAlgError:
            return None
        return solved(lower, both), float(np.log(np.diag(lower)).sum())

    def objective(theta: Theta) -> float:
        if (parts := whitened(theta[:3])) is None:
            return math.inf
        white, log_determinant = parts
        trend, count = Trend(white[:, 0], white[:, 1:], theta), len(values)
        fit = 0.5 * count * math.log(max(trend.residual / count, 1e-12)) + log_determinant + trend.log_determinant
        penalty = sum(0.5 * ((at - mean) / wide) ** 2 for at, mean, wide in zip(theta[:3], PRIOR, SPREAD, strict=True))
        for at in theta[3:]:
            penalty += 0.5 * ((at - EVIDENCE) / EVIDENCE_SPREAD[at < EVIDENCE]) ** 2
        return fit + penalty

    return objective


def fit(pairs: Pairs, values: Array, evidence: Array) -> Theta:
    """Return the hyper-parameters with the largest posterior, by a coordinate search from the prior means.

    Args:
        pairs: n architectures compared with each other.
        values: the scores of the architectures, shape ``(n,)``.
        evidence: of the architectures, shape ``(n, d)``.
    """
    return _minimise(_posterior(pairs, values, evidence), prior(evidence.shape[1] > 0))


def _minimise(objective: Callable[[Theta], float], start: Theta) -> Theta:
    best, smallest, steps = start, objective(start), [1.0] * len(start)
    for _ in range(_ROUNDS):
        for axis in range(len(best)):
            for sign in (1.0, -1.0):
                moved = [*best]
                moved[axis] += sign * steps[axis]
                candidate = tuple(moved)
                if (value := objective(candidate)) < smallest:
                    best, smallest = candidate, value
                    steps[axis] *= 1.5
                    break
            else:
                steps[axis] *= 0.5
    return best


@final
class GaussianProcess:
    """The posterior of a Gaussian process with a linear trend, given values.

    Args:
        lower: the factor of the covariances of n architectures, of decisions and costs.
        values: the scores of the architectures, mean 0, shape ``(n,)``.
        evidence: of the architectures, shape ``(n, d)``.
        theta: hyper-parameters.
    """

    def __init__(self, lower: Array, values: Array, evidence: Array, theta: Theta) -> None:
        both = np.column_stack([values, evidence])
        self._white = solved(lower, both)
        self._trend = Trend(self._white[:, 0], self._white[:, 1:], theta)
        self._amplitude = max(self._trend.residual / len(values), 1e-12)

    def predict(self, whitened: NDArray[Any], evidence: Array) -> tuple[Array, Array]:
        """Return means and standard deviations (without noise) of m architectures, each of shape ``(m,)``.

        Args:
            whitened: their covariances with the n architectures, as `whiten` returns them, shape ``(n, m)``.
            evidence: of the m, shape ``(m, d)``.
        """
        predicted = whitened.T @ self._white.astype(whitened.dtype, copy=False)
        rest = evidence - predicted[:, 1:]  # what decisions and costs do not predict of the evidence
        variance: Array = 1.0 - np.einsum("ij,ij->j", whitened, whitened).astype(np.float64)
        variance += ((rest @ self._trend.covariance) * rest).sum(axis=1)
        mean: Array = predicted[:, 0] + rest @ self._trend.coefficients
        return mean, np.sqrt(self._amplitude * np.maximum(variance, _LEAST))

    @property
    def slopes(self) -> Array:
        """The expected coefficient of each column of evidence in the predictions, shape ``(d,)``."""
        return self._trend.coefficients


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the logarithm of the expected improvement over ``best`` (Ament et al. 2023, arXiv 2310.20708, eq. 8).

    The logarithm, because far below ``best`` all improvements would be rounded to zero.

    Args:
        mean: predicted means, shape ``(m,)``.
        deviation: predicted standard deviations, shape ``(m,)``.
        best: the best score so far.
    """
    z = (mean - best) / deviation
    # log(phi(z) + z Phi(z)). For very negative z the series of Mills' ratio gives phi(z) / z^2; for large z the
    # improvement is z.
    near = np.clip(z, -20.0, 8.0)
    body = _log_density(near) + np.log1p(near * np.exp(log_ndtr(near) - _log_density(near)))
    tail = _log_density(z) - 2 * np.log(np.maximum(-z, 1.0))
    improvement: Array = np.where(z < -20.0, tail, np.where(z > 8.0, np.log(np.maximum(z, 1.0)), body)) + np.log(
        deviation
    )
    return improvement


def _log_density(z: Array) -> Array:
    density: Array = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    return density
