"""The factored covariances of trials, which change little from one proposal to the next: `Factor`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from automl_nas.space import Architecture
from automl_nas_surrogate.gaussian_process import Array, Pairs, Theta, factor, kernel, noise, solved, whiten


@final
class Factor:
    """The Cholesky factor of the covariances of n trials, and the covariances of trials and m others, whitened by it.

    The first trials are factored at once, and each later one by itself: a further trial costs ``n (n + m)`` operations
    instead of ``n^2 (n + m)``. Which are the first is an argument, so the numbers depend on the arguments alone, to the
    last bit, and not on what was computed before: a search that is resumed makes the same proposals.

    Attributes:
        lower: L, where ``L L'`` are the covariances of the trials with the noise, shape ``(n, n)``.

    Args:
        others: m, the number of the others.
    """

    def __init__(self, others: int) -> None:
        self.lower = np.zeros((0, 0), order="F")
        self._rows = np.empty((0, others))  # as many as there may be trials soon
        self._trials: list[Architecture] = []
        self._computed: tuple[int, Theta] = (0, ())  # the number of the first ones, hyper-parameters

    @property
    def whitened(self) -> Array:
        """``L^-1 K``, where K are the covariances of trials and others, shape ``(n, m)``; it must not be changed."""
        return self._rows[: len(self._trials)]

    def update(
        self, trials: Sequence[Architecture], first: int, theta: Theta, own: Pairs, others: Callable[[slice], Pairs]
    ) -> None:
        """Compute the factor; of trials that begin as those of the last call do, only the others are factored.

        Args:
            trials: n of them.
            first: how many of them are factored at once.
            theta: hyper-parameters.
            own: the trials compared with each other.
            others: returns the trials of a slice compared with the others.
        """
        count, same = len(trials), 0
        if self._computed == (first, theta):
            while same < min(count, len(self._trials)) and trials[same] == self._trials[same]:
                same += 1
        lower = np.zeros((count, count), order="F")
        if count > len(self._rows):
            rows = np.empty((2 * count, self._rows.shape[1]))
            rows[:same] = self._rows[:same]
            self._rows = rows
        if same >= first:
            lower[:same, :same] = self.lower[:same, :same]
        else:
            same, block = first, slice(first)
            lower[block, block] = corner = factor(kernel(own.of(block, block), theta), theta)
            self._rows[block] = whiten(corner, kernel(others(block), theta))
        for place in range(same, count):
            one, before = slice(place, place + 1), slice(place)
            left = kernel(own.of(one, before), theta)[0]
            if place:  # LAPACK has no systems without equations
                left = solved(lower[before, before], left)
            # Rounding may make the variance that is left negative, if the architecture was evaluated before.
            scale = math.sqrt(max(1.0 + noise(theta) - float(left @ left), 1e-8))
            lower[place, before], lower[place, place] = left, scale
            self._rows[place] = (kernel(others(one), theta)[0] - left @ self._rows[before]) / scale
        self.lower, self._trials, self._computed = lower, list(trials), (first, theta)
