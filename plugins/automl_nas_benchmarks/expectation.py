"""What random search can be expected to find: a closed form of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from automl_nas.errors import ConfigurationError


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
    ``C(n G, N) / C(n, N)``, from n networks. Networks of equal signal are equally likely to come first.

    Args:
        signals: what the search is told, one for each network; large values are wanted.
        truths: what it is judged by, in the same order.
        draws: how many networks are drawn.
        weights: how often each one is drawn, in any unit (such as the number of codes of a function); None: equally.
        replacement: whether a network may be drawn twice.

    Raises:
        ConfigurationError: no draws, more draws than networks without replacement, or weights without replacement.
    """
    signal, truth = np.asarray(signals, dtype=np.float64), np.asarray(truths, dtype=np.float64)
    share = np.ones(len(signal)) if weights is None else np.asarray(weights, dtype=np.float64)
    if draws < 1 or (not replacement and draws > len(signal)):
        raise ConfigurationError(f"cannot draw {draws} of {len(signal)} networks", path="draws")
    if weights is not None and not replacement:
        raise ConfigurationError("with weights there is a closed form for draws with replacement only", path="weights")
    levels, group = np.unique(signal, return_inverse=True)
    size = np.bincount(group, share, len(levels))
    mean = np.bincount(group, share * truth, len(levels)) / size
    square = np.bincount(group, share * truth**2, len(levels)) / size
    below = np.concatenate([[0.0], np.cumsum(size)])
    none_above = (below / below[-1]) ** draws if replacement else _drawn_from(below, draws)
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
