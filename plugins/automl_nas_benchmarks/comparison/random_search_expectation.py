"""The expected result of random search on a table, in closed form: `expected_best`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

from automl_nas.errors import ConfigurationError

_NODES = 300
"""Nodes of the quadrature over time; for 1,000 draws their distance is one standard deviation of the time."""


@final
@dataclass(frozen=True)
class Expectation:
    """Mean and deviation of the result of a random search.

    Attributes:
        mean: expected true value of the network with the best signal.
        deviation: standard deviation of that true value.
    """

    mean: float
    deviation: float


def expected_best(
    signals: ArrayLike,
    truths: ArrayLike,
    draws: int,
    *,
    weights: ArrayLike | None = None,
    replacement: bool = True,
) -> Expectation:
    """Return the expected true value of the network with the best signal among random networks.

    Let ``F(s)`` be the share of networks whose signal is below ``s``, and ``G(s)`` the share whose signal is at most
    ``s``. The best of N independent draws has the signal s with probability ``G(s)^N - F(s)^N``. Without replacement
    the powers become ``C(n G, N) / C(n, N)`` for n networks. Among networks of equal signal the one drawn first is the
    result.

    With weights and without replacement, each draw is among the remaining networks, in proportion to their weights.
    Equivalently, network i arrives at a random time, exponential with rate w_i, and the draws are in the order of
    arrival. No network above s is among the first N if all of them arrive later than the N-th of the others; the
    probability is the mean of ``exp(-W T)``, where W is the sum of the weights above s and T the arrival time of the
    N-th of the others. It is an integral over time of the number of arrivals, a sum of independent variables, and is
    computed to about nine digits. This describes a uniform search over codes that evaluates no function twice: the
    weight of a function is the number of its codes. (If networks of equal signal differ in truth and in weight, their
    order is assumed to be independent of the other networks; otherwise the result is exact.)

    Args:
        signals: the metric that the search receives, shape ``(networks,)``; larger is better.
        truths: the true values, in the same order.
        draws: number of networks that are drawn.
        weights: relative probability of each network, such as the number of codes of a function; None: all equal.
        replacement: whether a network may be drawn twice.

    Raises:
        ConfigurationError: ``draws`` is below 1, or larger than the number of networks without replacement.
    """
    signal, truth = np.asarray(signals, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    share = np.ones(len(signal)) if weights is None else np.asarray(weights, dtype=np.float64)
    if draws < 1 or (not replacement and draws > len(signal)):
        raise ConfigurationError(f"cannot draw {draws} of {len(signal)} networks", path="draws")
    levels, group = np.unique(signal, return_inverse=True)
    size = np.bincount(group, share, len(levels))
    mean = np.bincount(group, share * truth, len(levels)) / size
    square = np.bincount(group, share * truth**2, len(levels)) / size
    below = np.concatenate([[0.0], np.cumsum(size)])
    if replacement:
        none_above = (below / below[-1]) ** draws
    elif weights is None:
        none_above = _drawn_from(below, draws)
    else:
        none_above = _drawn_by_weight(share, group, draws)
    probability = np.diff(none_above)
    first, second = float(probability @ mean), float(probability @ square)
    return Expectation(first, max(0.0, second - first**2) ** 0.5)


def _drawn_from(counts: NDArray[np.float64], draws: int) -> NDArray[np.float64]:
    """Return, for each count, the probability that all draws without replacement are among the first ``count``."""
    enough = counts >= draws
    inside = np.where(enough, counts, draws)

    def choose(n: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(n + 1) - gammaln(n - draws + 1))

    return np.where(enough, np.exp(choose(inside) - choose(inside[-1:])), 0.0)


def _drawn_by_weight(weights: NDArray[np.float64], group: NDArray[np.intp], draws: int) -> NDArray[np.float64]:
    """Return, for each number of groups, the probability that all draws by weight are among the first groups."""
    # Gauss's rule over all times; its middle is the time at which about `draws` networks have arrived.
    nodes, factors = np.polynomial.legendre.leggauss(_NODES)
    middle = brentq(lambda time: -np.expm1(-weights * time).sum() - draws + 0.5, 0.0, 1e3 / weights.min())
    place = (nodes + 1) / 2
    times = middle * place / (1 - place)
    measure = factors / 2 * middle / (1 - place) ** 2
    # The probability that 0, 1, ..., draws - 1 networks of the groups so far have arrived by each time.
    arrived = np.zeros((_NODES, draws))
    arrived[:, 0] = 1.0
    groups = int(group.max()) + 1
    left = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights, groups)[::-1])])[::-1]
    order = np.argsort(group, kind="stable")
    probabilities, level = np.zeros(groups + 1), 0
    for item in [*order.tolist(), -1]:
        if item < 0 or group[item] > level:
            level += 1
            enough = 1 - arrived.sum(axis=1)
            probabilities[level] = measure @ (left[level] * np.exp(-left[level] * times) * enough)
        if item >= 0:
            absent = np.exp(-weights[item] * times)[:, None]
            arrived[:, 1:] = arrived[:, 1:] * absent + arrived[:, :-1] * (1 - absent)
            arrived[:, :1] *= absent
    probabilities[-1] = 1.0
    return probabilities
