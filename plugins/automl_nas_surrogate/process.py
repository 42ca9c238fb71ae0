"""A Gaussian process over architectures: its kernel, its hyper-parameters, what it predicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, solve_triangular
from scipy.special import log_ndtr, ndtri
from scipy.stats import rankdata

Array: TypeAlias = NDArray[np.float64]
Theta: TypeAlias = tuple[float, float, float]
"""Logarithms of: the length of distances between decisions, that of distances between costs, and the noise."""

PRIOR: Theta = (math.log(0.5), 0.0, math.log(0.05))
"""Where the hyper-parameters are expected: architectures that differ in half of their decisions, or by one standard
deviation of the costs, still say something about each other; a twentieth of the variance is noise. The standard
deviations of these logarithms are `SPREAD`: wide, they only tame fits to a handful of points."""

SPREAD: Theta = (1.0, 1.0, 1.5)

_ROUNDS = 6  # of coordinate search: the posterior is smooth, and a rough optimum is as good in use


def normal_scores(ranked: Sequence[object]) -> Array:
    """Return standardised normal quantiles of the ranks; larger values have larger scores, equal ones the same.

    Only the order of accuracies is modelled: how far the worst lie below the rest would otherwise decide everything.

    Args:
        ranked: anything that can be compared, one for each architecture.
    """
    places = {value: place for place, value in enumerate(sorted(set(ranked)))}  # type: ignore[type-var]
    ranks = rankdata([places[value] for value in ranked])
    scores: Array = ndtri((ranks - 0.5) / len(ranks))
    spread = float(scores.std())
    standard: Array = (scores - scores.mean()) / (spread if spread > 0 else 1.0)
    return standard


def kernel(decisions: Array, costs: Array, theta: Theta) -> Array:
    """Return ``exp(-decisions / l1 - costs / l2^2)``.

    The first factor is that of Hamming distances (a product over decisions, each either equal or not), the second a
    Gaussian of the costs.

    Args:
        decisions: distances, 0 to 1, shape ``(n, m)``.
        costs: squared distances, same shape.
        theta: hyper-parameters.
    """
    return np.exp(-decisions * math.exp(-theta[0]) - costs * math.exp(-2 * theta[1]))


def negative_log_posterior(decisions: Array, costs: Array, values: Array, theta: Theta) -> float:
    """Return it up to a constant, with the amplitude at its best value (Rasmussen and Williams 2006, section 5.4).

    Args:
        decisions: distances among the architectures, shape ``(n, n)``.
        costs: squared distances, same shape.
        values: what they are worth, shape ``(n,)``.
        theta: hyper-parameters.
    """
    try:
        lower = _factor(decisions, costs, theta)
    except LinAlgError:
        return math.inf
    white = solve_triangular(lower, values, lower=True, check_finite=False)
    count = len(values)
    fit = 0.5 * count * math.log(max(float(white @ white) / count, 1e-12)) + float(np.log(np.diag(lower)).sum())
    return fit + sum(0.5 * ((at - mean) / wide) ** 2 for at, mean, wide in zip(theta, PRIOR, SPREAD, strict=True))


def fit(decisions: Array, costs: Array, values: Array) -> Theta:
    """Return the hyper-parameters of the largest posterior, by a coordinate search from the prior."""

    def height(theta: Theta) -> float:
        return negative_log_posterior(decisions, costs, values, theta)

    return _descend(height, PRIOR)


def _descend(height: Callable[[Theta], float], start: Theta) -> Theta:
    here, least, steps = start, height(start), [1.0] * len(start)
    for _ in range(_ROUNDS):
        for place in range(len(here)):
            for sign in (1.0, -1.0):
                moved = [*here]
                moved[place] += sign * steps[place]
                there: Theta = (moved[0], moved[1], moved[2])
                if (found := height(there)) < least:
                    here, least = there, found
                    steps[place] *= 1.5
                    break
            else:
                steps[place] *= 0.5
    return here


def _factor(decisions: Array, costs: Array, theta: Theta) -> Array:
    matrix = kernel(decisions, costs, theta)
    matrix[np.diag_indices_from(matrix)] += math.exp(theta[2]) + 1e-8
    lower: Array = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)[0]
    return np.tril(lower)


@final
class Process:
    """A Gaussian process after seeing values.

    Args:
        decisions: distances among the architectures, shape ``(n, n)``.
        costs: squared distances, same shape.
        values: what they are worth, mean 0, shape ``(n,)``.
        theta: hyper-parameters.
    """

    def __init__(self, decisions: Array, costs: Array, values: Array, theta: Theta) -> None:
        self._theta, self._lower = theta, _factor(decisions, costs, theta)
        self._white = solve_triangular(self._lower, values, lower=True, check_finite=False)
        self._amplitude = max(float(self._white @ self._white) / len(values), 1e-12)

    def predict(self, decisions: Array, costs: Array) -> tuple[Array, Array]:
        """Return means and standard deviations (without noise) at m architectures.

        Args:
            decisions: distances from the n known architectures, shape ``(n, m)``.
            costs: squared distances, same shape.
        """
        half = solve_triangular(self._lower, kernel(decisions, costs, self._theta), lower=True, check_finite=False)
        left = np.maximum(1.0 - np.einsum("ij,ij->j", half, half), 1e-9)
        return half.T @ self._white, np.sqrt(self._amplitude * left)


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the logarithm of the expected improvement over ``best`` (Ament et al. 2023, arXiv 2310.20708, eq. 8).

    Of the logarithm, since far from the best all improvements would be zero to rounding.
    """
    z = (mean - best) / deviation
    # log(phi(z) + z Phi(z)); where z is very negative, by the series of Mills' ratio: phi(z) / z^2; where it is large,
    # the improvement is certain.
    near = np.clip(z, -20.0, 8.0)
    body = _log_density(near) + np.log1p(near * np.exp(log_ndtr(near) - _log_density(near)))
    tail = _log_density(z) - 2 * np.log(np.maximum(-z, 1.0))
    found: Array = np.where(z < -20.0, tail, np.where(z > 8.0, np.log(np.maximum(z, 1.0)), body)) + np.log(deviation)
    return found


def _log_density(z: Array) -> Array:
    density: Array = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    return density
