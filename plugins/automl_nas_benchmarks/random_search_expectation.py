"""What random search can be expected to find: a closed form of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln

from automl_nas.errors import ConfigurationError

_NODES = 300  # for 1,000 draws the distance between two is a standard deviation of the time


@final
@dataclass(frozen=True)
class Expectation:
    """The distribution of what one search finds.

    Attributes:
        mean: of the truth of the network with the best signal.
        deviation: its standard deviation from search to search.
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
    """Return what the best of some random networks is worth: chosen by their signal, judged by their truth.

    Let ``F(s)`` be the share of networks whose signal is below ``s``, and ``G(s)`` the share at most ``s``. The best of
    N independent draws has the signal s with probability ``G(s)^N - F(s)^N``. Without replacement the powers become
    ``C(n G, N) / C(n, N)``, from n networks. Of networks of equal signal the one drawn first counts.

    With weights and without replacement (draws in turn, each among those that are left, by weight) let network i come
    at a random time, exponential with the rate w_i. Then the order of draws is that of the times, and none above s is
    among the first N if they all come later than the N-th of the others: the mean of ``exp(-W T)``, W the sum of the
    weights above s. It is an integral over the number of the others that have come by a time, a sum of independent
    draws, and is computed to about nine digits. This is a search over codes, uniformly, that evaluates no function
    twice: the weight of a function is the number of its codes. (Where networks of equal signal differ in truth and in
    weight, which one comes first is taken to be independent of the others; else the result is exact.)

    Args:
        signals: what the search is told, one for each network; large values are wanted.
        truths: what it is judged by, in the same order.
        draws: how many networks are drawn.
        weights: how often each one is drawn, in any unit (such as the number of codes of a function); None: equally.
        replacement: whether a network may be drawn twice.

    Raises:
        ConfigurationError: no draws, or more draws than networks without replacement.
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
    """Return the probability that all draws without replacement are among the first so many networks."""
    enough = counts >= draws
    inside = np.where(enough, counts, draws)

    def choose(n: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(n + 1) - gammaln(n - draws + 1))

    return np.where(enough, np.exp(choose(inside) - choose(inside[-1:])), 0.0)


def _drawn_by_weight(weights: NDArray[np.float64], group: NDArray[np.intp], draws: int) -> NDArray[np.float64]:
    """Return the same for draws in turn by weight, after 0, 1, ... groups of networks."""
    # Gauss's rule over all times, put so that the middle is when about so many have come.
    nodes, factors = np.polynomial.legendre.leggauss(_NODES)
    middle = brentq(lambda time: -np.expm1(-weights * time).sum() - draws + 0.5, 0.0, 1e3 / weights.min())
    place = (nodes + 1) / 2
    times = middle * place / (1 - place)
    measure = factors / 2 * middle / (1 - place) ** 2
    # Of the groups so far: the probability that 0, 1, ..., draws - 1 have come by each time.
    come = np.zeros((_NODES, draws))
    come[:, 0] = 1.0
    groups = int(group.max()) + 1
    left = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights, groups)[::-1])])[::-1]
    order = np.argsort(group, kind="stable")
    found, level = np.zeros(groups + 1), 0
    for item in [*order.tolist(), -1]:
        if item < 0 or group[item] > level:
            level += 1
            enough = 1 - come.sum(axis=1)
            found[level] = measure @ (left[level] * np.exp(-left[level] * times) * enough)
        if item >= 0:
            yet = np.exp(-weights[item] * times)[:, None]
            come[:, 1:] = come[:, 1:] * yet + come[:, :-1] * (1 - yet)
            come[:, :1] *= yet
    found[-1] = 1.0
    return found
