"""A Gaussian process over architectures: kernel, hyper-parameters, predictions and expected improvement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, solve_triangular
from scipy.linalg.blas import dtrsm
from scipy.special import log_ndtr, ndtri

Array: TypeAlias = NDArray[np.float64]
Theta: TypeAlias = tuple[float, ...]
"""Hyper-parameters: the logarithms of the length scales of decisions (l1) and costs (l2), of the noise variance, and of
the weight of each column of evidence (w)."""

PRIOR: Theta = (math.log(0.5), 0.0, math.log(0.05))
"""Prior means of the hyper-parameters without evidence: architectures that differ in half of their decisions, or by one
standard deviation of the costs, are still correlated; a twentieth of the variance is noise. The prior standard
deviations are `SPREAD`; they are large, so the prior only matters for fits to few points."""

SPREAD: Theta = (1.0, 1.0, 1.5)

EVIDENCE: tuple[float, float] = (1.5, 4.0)
"""Prior standard deviations of the logarithm of a weight above and below its mean, which is one over the number of
columns, and at most `LARGEST_MEAN`: architectures that differ by one standard deviation in all columns are still
correlated. Small weights are hardly less likely, so that a few results suffice to ignore a column that does not
predict."""

LARGEST_MEAN = 0.25
"""With a mean of 1, a single column of noise cost a fifth more evaluations (docs/results/evidence.md)."""

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
    counts = np.bincount(dense)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[dense]  # from 1 on; equal values have their mean rank
    scores: Array = ndtri((ranks - 0.5) / len(ranks))
    spread = float(scores.std())
    standard: Array = (scores - scores.mean()) / (spread if spread > 0 else 1.0)
    return standard


def prior(columns: int) -> Theta:
    """Return the prior means of the hyper-parameters.

    Args:
        columns: number of columns of evidence.
    """
    return PRIOR + (math.log(min(LARGEST_MEAN, 1 / max(columns, 1))),) * columns


@final
@dataclass(frozen=True)
class Distances:
    """Distances of n architectures from m architectures.

    Attributes:
        decisions: 0 to 1, shape ``(n, m)``.
        costs: squared, shape ``(n, m)``; None: no costs.
        evidence: squared, one matrix for each column of evidence, shape ``(columns, n, m)``; None: no evidence.
        weighted: whether ``evidence`` is one matrix instead, the sum over the columns, each times its weight.
    """

    decisions: Array
    costs: Array | None = None
    evidence: Array | None = None
    weighted: bool = False

    @property
    def columns(self) -> int:
        """The number of columns of evidence."""
        return 0 if self.evidence is None else len(self.evidence)


def kernel(distances: Distances, theta: Theta) -> Array:
    """Return ``exp(-decisions / l1 - costs / l2^2 - sum of w evidence)``.

    The first factor is a kernel of Hamming distances (a product over decisions, each equal or not), the others are
    Gaussian kernels of the costs and of each column of evidence. Evidence that does not predict gets a weight of
    nearly 0.

    Args:
        distances: distances of n architectures from m.
        theta: hyper-parameters.

    Returns:
        The covariances, shape ``(n, m)``.
    """
    exponent = distances.decisions * -math.exp(-theta[0])
    if distances.costs is not None:
        exponent -= distances.costs * math.exp(-2 * theta[1])
    if distances.evidence is not None:
        weighted, each = distances.weighted, distances.evidence
        exponent -= each if weighted else np.tensordot(np.exp(theta[3:]), each, 1)
    covariances: Array = np.exp(exponent, out=exponent)
    return covariances


def negative_log_posterior(distances: Distances, values: Array, theta: Theta) -> float:
    """Return ``-log p(theta | values)`` up to a constant, maximised over the amplitude.

    Rasmussen and Williams 2006, section 5.4.

    Args:
        distances: distances between n architectures.
        values: the scores of the architectures, shape ``(n,)``.
        theta: hyper-parameters.

    Returns:
        Infinity if the covariance matrix is not positive definite.
    """
    try:
        lower = _factor(distances, theta)
    except LinAlgError:
        return math.inf
    white = solve_triangular(lower, values, lower=True, check_finite=False)
    count = len(values)
    fit = 0.5 * count * math.log(max(float(white @ white) / count, 1e-12)) + float(np.log(np.diag(lower)).sum())
    penalty = sum(0.5 * ((at - mean) / wide) ** 2 for at, mean, wide in zip(theta[:3], PRIOR, SPREAD, strict=True))
    for at, mean in zip(theta[3:], prior(distances.columns)[3:], strict=True):
        penalty += 0.5 * ((at - mean) / EVIDENCE[at < mean]) ** 2
    return fit + penalty


def fit(distances: Distances, values: Array) -> Theta:
    """Return the hyper-parameters with the largest posterior, by a coordinate search from the prior means."""

    def objective(theta: Theta) -> float:
        return negative_log_posterior(distances, values, theta)

    return _minimise(objective, prior(distances.columns))


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


def _factor(distances: Distances, theta: Theta) -> Array:
    matrix = kernel(distances, theta)
    matrix[np.diag_indices_from(matrix)] += math.exp(theta[2]) + 1e-8
    lower: Array = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)[0]
    return lower  # what lies above the diagonal is never read


@final
class GaussianProcess:
    """The posterior of a Gaussian process, given values.

    Args:
        distances: distances between the n architectures.
        values: the scores of the architectures, mean 0, shape ``(n,)``.
        theta: hyper-parameters.
    """

    def __init__(self, distances: Distances, values: Array, theta: Theta) -> None:
        self._theta, self._lower = theta, _factor(distances, theta)
        self._white = solve_triangular(self._lower, values, lower=True, check_finite=False)
        self._amplitude = max(float(self._white @ self._white) / len(values), 1e-12)

    def predict(self, distances: Distances) -> tuple[Array, Array]:
        """Return means and standard deviations (without noise) of m architectures, each of shape ``(m,)``.

        Args:
            distances: distances of the n architectures from the m.
        """
        # X L' = K' has the rows of K as they are in memory: no copy, a sixth faster than solving L X = K.
        half = dtrsm(1.0, self._lower, kernel(distances, self._theta).T, side=1, lower=1, trans_a=1)
        share = np.maximum(1.0 - np.einsum("ij,ij->i", half, half), 1e-9)
        return half @ self._white, np.sqrt(self._amplitude * share)


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
