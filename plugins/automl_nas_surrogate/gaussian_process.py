"""A Gaussian process over architectures: kernel, hyper-parameters, predictions and expected improvement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, solve_triangular
from scipy.linalg.blas import dtrsm
from scipy.special import log_ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
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

_BLOCK = 256  # predictions at once: their covariances with 300 trials fit into the cache of a core
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
    scores = normal_quantiles(dense, np.sort(dense))
    spread = float(scores.std())
    standard: Array = (scores - scores.mean()) / (spread if spread > 0 else 1.0)
    return standard


def normal_quantiles(values: NDArray[Any], among: NDArray[Any]) -> Array:
    """Return the normal quantiles of the ranks that values have among n; equal values have their mean rank.

    Args:
        values: some of the n, shape ``(k,)``.
        among: all of them, ascending, shape ``(n,)``.

    Returns:
        Shape ``(k,)``.
    """
    below, upto = np.searchsorted(among, values, "left"), np.searchsorted(among, values, "right")
    ranks = (below + upto + 1) / 2  # from 1 on
    quantiles: Array = ndtri((ranks - 0.5) / len(among))
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
        products: of the evidence of both, the mean over its columns, shape ``(n, m)``; None: no evidence.
        squares: of the evidence of the m, the mean over its columns, shape ``(m,)``; None: no evidence.
    """

    decisions: Array
    costs: Array | None = None
    products: Array | None = None
    squares: Array | None = None

    def of(self, block: slice) -> Pairs:
        """Return those of some of the m architectures."""
        costs, products = (None if part is None else part[:, block] for part in (self.costs, self.products))
        return Pairs(self.decisions[:, block], costs, products, None if self.squares is None else self.squares[block])


def kernel(pairs: Pairs, theta: Theta) -> Array:
    """Return ``exp(-decisions / l1 - costs / l2^2) + v products``.

    The first factor of the exponential is a kernel of Hamming distances (a product over decisions, each equal or not),
    the other a Gaussian kernel of the costs. The last summand is the kernel of Bayesian linear regression on the
    columns of evidence, whose coefficients have the variance v over the number of columns (Rasmussen and Williams 2006,
    section 2.1): evidence is the trend, and decisions and costs explain what differs from it.

    Args:
        pairs: n architectures compared with m.
        theta: hyper-parameters.

    Returns:
        The covariances, shape ``(n, m)``.
    """
    exponent = pairs.decisions * -math.exp(-theta[0])
    if pairs.costs is not None:
        exponent -= pairs.costs * math.exp(-2 * theta[1])
    covariances: Array = np.exp(exponent, out=exponent)
    if pairs.products is not None:
        covariances += math.exp(theta[3]) * pairs.products
    return covariances


def negative_log_posterior(pairs: Pairs, values: Array, theta: Theta) -> float:
    """Return ``-log p(theta | values)`` up to a constant, maximised over the amplitude.

    Rasmussen and Williams 2006, section 5.4.

    Args:
        pairs: n architectures compared with each other.
        values: the scores of the architectures, shape ``(n,)``.
        theta: hyper-parameters.

    Returns:
        Infinity if the covariance matrix is not positive definite.
    """
    try:
        lower = _factor(pairs, theta)
    except LinAlgError:
        return math.inf
    white = solve_triangular(lower, values, lower=True, check_finite=False)
    count = len(values)
    fit = 0.5 * count * math.log(max(float(white @ white) / count, 1e-12)) + float(np.log(np.diag(lower)).sum())
    penalty = sum(0.5 * ((at - mean) / wide) ** 2 for at, mean, wide in zip(theta[:3], PRIOR, SPREAD, strict=True))
    for at in theta[3:]:
        penalty += 0.5 * ((at - EVIDENCE) / EVIDENCE_SPREAD[at < EVIDENCE]) ** 2
    return fit + penalty


def fit(pairs: Pairs, values: Array) -> Theta:
    """Return the hyper-parameters with the largest posterior, by a coordinate search from the prior means."""

    def objective(theta: Theta) -> float:
        return negative_log_posterior(pairs, values, theta)

    return _minimise(objective, prior(pairs.products is not None))


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


def _factor(pairs: Pairs, theta: Theta) -> Array:
    matrix = kernel(pairs, theta)
    matrix[np.diag_indices_from(matrix)] += math.exp(theta[2]) + 1e-8
    lower: Array = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)[0]
    return lower  # what lies above the diagonal is never read


@final
class GaussianProcess:
    """The posterior of a Gaussian process, given values.

    Args:
        pairs: the n architectures compared with each other.
        values: the scores of the architectures, mean 0, shape ``(n,)``.
        theta: hyper-parameters.
    """

    def __init__(self, pairs: Pairs, values: Array, theta: Theta) -> None:
        self._theta, self._lower = theta, _factor(pairs, theta)
        self._white = solve_triangular(self._lower, values, lower=True, check_finite=False)
        self._amplitude = max(float(self._white @ self._white) / len(values), 1e-12)

    def predict(self, pairs: Pairs) -> tuple[Array, Array]:
        """Return means and standard deviations (without noise) of m architectures, each of shape ``(m,)``.

        Args:
            pairs: the n architectures compared with the m.
        """
        count = pairs.decisions.shape[1]
        mean, explained = np.empty(count), np.empty(count)
        for begin in range(0, count, _BLOCK):
            block = slice(begin, begin + _BLOCK)
            # X L' = K' has the rows of K as they are in memory: no copy, a sixth faster than solving L X = K.
            half = dtrsm(1.0, self._lower, kernel(pairs.of(block), self._theta).T, side=1, lower=1, trans_a=1)
            mean[block], explained[block] = half @ self._white, np.einsum("ij,ij->i", half, half)
        before = 1.0 if pairs.squares is None else 1.0 + math.exp(self._theta[3]) * pairs.squares
        return mean, np.sqrt(self._amplitude * np.maximum(before - explained, 1e-9))

    def slopes(self, evidence: Array) -> Array:
        """Return the expected coefficient of each column of evidence in the predictions, shape ``(columns,)``.

        Args:
            evidence: of the n architectures, shape ``(n, columns)``.
        """
        solved = solve_triangular(self._lower, self._white, lower=True, trans=1, check_finite=False)
        coefficients: Array = math.exp(self._theta[3]) * (solved @ evidence) / evidence.shape[1]
        return coefficients


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
