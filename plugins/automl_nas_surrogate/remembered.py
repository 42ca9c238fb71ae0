"""Features and distances of trials, which recur from one proposal to the next: `Remembered`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space import Architecture
from automl_nas_surrogate.features import Features
from automl_nas_surrogate.gaussian_process import Array


@final
class Remembered:
    """Features and distances of a sequence of architectures that changes little from call to call.

    Only those of new architectures are computed; the others are copied, so the numbers are the same.

    Args:
        featurize: returns the features of architectures.
    """

    def __init__(self, featurize: Callable[[Sequence[Architecture]], Features]) -> None:
        self._featurize = featurize
        self._architectures: list[Architecture] = []
        self._features: Features | None = None
        self._decisions: Array = np.zeros((0, 0))
        self._costs: Array | None = None

    def __call__(self, architectures: Sequence[Architecture]) -> tuple[Features, Array, Array | None]:
        """Return the features of n architectures, and their distances as `Features.distances` does."""
        own = list(architectures)
        count = len(self._architectures)
        if own[:count] == self._architectures:
            reused = np.arange(count)
        else:
            before = {architecture: place for place, architecture in enumerate(self._architectures)}
            indices = [before.get(architecture) for architecture in own]
            # The earlier ones come first, as it does when the oldest are forgotten and the latest are added.
            first_new = next((place for place, index in enumerate(indices) if index is None), len(own))
            reused = np.array(indices[:first_new], dtype=np.intp)
        if self._features is None or not len(reused):
            features = self._featurize(own)
            decisions, costs = features.distances(features)
        elif len(reused) == len(own):
            features, decisions, costs = self._part(reused)
        else:
            earlier, decisions, costs = self._part(reused)
            fresh = self._featurize(own[len(reused) :])
            features = earlier.concatenated(fresh)
            rows, cost_rows = fresh.distances(features)
            decisions = _extended(decisions, rows)
            costs = None if costs is None or cost_rows is None else _extended(costs, cost_rows)
        self._architectures, self._features, self._decisions, self._costs = own, features, decisions, costs
        return features, decisions, costs

    def _part(self, places: NDArray[np.intp]) -> tuple[Features, Array, Array | None]:
        assert self._features is not None
        if len(places) == len(self._architectures) and (places == np.arange(len(places))).all():
            return self._features, self._decisions, self._costs
        pairs = np.ix_(places, places)
        return (
            self._features.of(places),
            self._decisions[pairs],
            None if self._costs is None else self._costs[pairs],
        )


def _extended(old: Array, rows: Array) -> Array:
    """Return a symmetric matrix: a part of it, and its last rows."""
    count, size = len(old), rows.shape[1]
    matrix = np.empty((size, size))
    matrix[:count, :count] = old
    matrix[count:] = rows
    matrix[:count, count:] = rows[:, :count].T
    return matrix
