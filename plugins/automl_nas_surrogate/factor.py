"""The factored covariances of trials, which change little from one proposal to the next: `Factor` and `Whitened`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np

from automl_nas.space import Architecture
from automl_nas_surrogate.features import Features
from automl_nas_surrogate.gaussian_process import Array, Pairs, Single, Theta, factor, kernel, noise, solved, whiten


@final
class Factor:
    """The Cholesky factor of the covariances of n trials.

    The first trials are factored at once, and each later one by itself: a further trial costs ``n^2`` operations
    instead of ``n^3``. Which are the first is an argument, so the numbers depend on the arguments alone, to the last
    bit, and not on what was computed before: a search that is resumed makes the same proposals.

    Attributes:
        lower: L, where ``L L'`` are the covariances of the trials with the noise, shape ``(n, n)``.
        single: the same in single precision.
        trials: the n trials.
        computed: how many of them were factored at once, and the hyper-parameters.
    """

    def __init__(self) -> None:
        self.lower: Array = np.zeros((0, 0), order="F")
        self.single: Single = self.lower.astype(np.float32)
        self.trials: Sequence[Architecture] = []
        self.computed: tuple[int, Theta] = (0, ())

    def update(self, trials: Sequence[Architecture], first: int, theta: Theta, own: Pairs) -> None:
        """Compute the factor; of trials that begin as those of the last call do, only the others are factored.

        Args:
            trials: n of them; the sequence must not be changed afterwards.
            first: how many of them are factored at once.
            theta: hyper-parameters.
            own: the trials compared with each other.
        """
        count = len(trials)
        same = equal_ones(trials, self.trials) if self.computed == (first, theta) else 0
        lower = np.zeros((count, count), order="F")
        if same >= first:
            lower[:same, :same] = self.lower[:same, :same]
        else:
            same, block = first, slice(first)
            lower[block, block] = factor(kernel(own.of(block, block), theta), theta)
        for place in range(same, count):
            one, before = slice(place, place + 1), slice(place)
            left = kernel(own.of(one, before), theta)[0]
            if place:  # LAPACK has no systems without equations
                left = solved(lower[before, before], left)
            # Rounding may make the variance that is left negative, if the architecture was evaluated before.
            scale = math.sqrt(max(1.0 + noise(theta) - float(left @ left), 1e-8))
            lower[place, before], lower[place, place] = left, scale
        self.lower, self.single = lower, lower.astype(np.float32)
        self.trials, self.computed = trials, (first, theta)


@final
class Whitened:
    """The covariances of n trials and m other architectures, whitened by the factor of the trials: ``L^-1 K``.

    They are computed in single precision, see `whiten`.

    Those of architectures that recur are computed as the factor is, the first trials at once and each later one by
    itself, so that a further trial costs ``n m`` operations instead of ``n^2 m``.

    Args:
        features: of the m architectures.
        recurring: whether they are compared with the trials again after a few proposals.
    """

    def __init__(self, features: Features, *, recurring: bool) -> None:
        self.features, self._recurring = features, recurring
        self._rows: Single = np.empty((0, len(features)), np.float32)  # as many as there may be trials soon
        self._trials: Sequence[Architecture] = []
        self._computed: tuple[int, Theta] = (0, ())

    def of(self, factor: Factor, trials: Features) -> Single:
        """Return ``L^-1 K``, shape ``(n, m)``; it must not be changed, and is overwritten by the next call.

        Args:
            factor: of the covariances of n trials.
            trials: their features.
        """
        first, theta = factor.computed
        if not self._recurring:
            return whiten(factor.single, self._covariances(trials, theta))
        count, lower = len(factor.trials), factor.single
        same = equal_ones(factor.trials, self._trials) if self._computed == factor.computed else 0
        if count > len(self._rows):
            rows = np.empty((2 * count, len(self.features)), np.float32)
            rows[:same] = self._rows[:same]
            self._rows = rows
        rows = self._rows
        if same < first:
            same, block = first, slice(first)
            rows[block] = whiten(lower[block, block], self._covariances(trials.of(block), theta))
        later = self._covariances(trials.of(slice(same, count)), theta)
        for place in range(same, count):
            rows[place] = (later[place - same] - lower[place, :place] @ rows[:place]) / lower[place, place]
        self._trials, self._computed = factor.trials, factor.computed
        return rows[:count]

    def _covariances(self, trials: Features, theta: Theta) -> Single:
        return kernel(Pairs(*trials.distances(self.features, np.float32)), theta)


def equal_ones(trials: Sequence[Architecture], others: Sequence[Architecture]) -> int:
    """Return how many trials two sequences have in common at their beginnings."""
    count = min(len(trials), len(others))
    if trials[:count] == others[:count]:
        return count
    return next(place for place in range(count) if trials[place] != others[place])
