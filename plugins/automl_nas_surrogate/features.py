"""How far architectures lie from each other, in decisions and in costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.spatial.distance import cdist

from automl_nas.space import Architecture, Ordinal, SearchSpace, encode, sample
from automl_nas.strategy import Problem
from automl_nas.streams import stream
from automl_nas_surrogate.process import Array

_SAMPLES = 200  # architectures whose costs say what is a large difference
_KEPT = 1 << 15


@final
@dataclass(frozen=True)
class Features:
    """What is compared of some architectures.

    Attributes:
        kinds: numbers of options that have no order, and 0 or 1 for each element of a subset, shape ``(n, k)``.
        places: of options in order, from 0 for the first to 1 for the last, shape ``(n, o)``.
        costs: standardised, shape ``(n, c)``.
    """

    kinds: Array
    places: Array
    costs: Array

    def distances(self, other: Features) -> tuple[Array, Array]:
        """Return the shares of decisions that differ, and squared distances of costs; shape ``(n, m)`` each.

        Options in order differ by the share of the way between them.
        """
        count = self.kinds.shape[1] + self.places.shape[1]
        shape = (len(self.kinds), len(other.kinds))
        apart = np.zeros(shape)
        if self.kinds.shape[1]:
            apart += cdist(self.kinds, other.kinds, "hamming") * self.kinds.shape[1]
        if self.places.shape[1]:
            apart += cdist(self.places, other.places, "cityblock")
        costs = cdist(self.costs, other.costs, "sqeuclidean") if self.costs.shape[1] else np.zeros(shape)
        return apart / max(count, 1), costs

    def followed_by(self, other: Features) -> Features:
        """Return those of all architectures of both."""
        pairs = ((self.kinds, other.kinds), (self.places, other.places), (self.costs, other.costs))
        return Features(*(np.concatenate(pair) for pair in pairs))


@final
class Featurizer:
    """Makes features of architectures.

    Costs are centred and divided by their standard deviation over uniform draws, and by the square root of their
    number: so one more cost that says the same as another changes nothing. A network without a value has the largest
    one met. Costs that are all the same are left out.

    Args:
        space: whose decisions are compared.
        problem: whose costs are.
        costs: whether they are.
        seed: of the draws.
    """

    def __init__(self, space: SearchSpace, problem: Problem, costs: bool, seed: int) -> None:
        self._space, self._problem = space, problem
        ordered = [
            (isinstance(decision, Ordinal), max(decision.size - 1, 1))
            for decision in space.decisions.values()
            for _ in range(decision.width)
        ]
        self._places = [place for place, (order, _) in enumerate(ordered) if order]
        self._kinds = [place for place, (order, _) in enumerate(ordered) if not order]
        self._lengths = np.array([length for order, length in ordered if order], dtype=np.float64)
        self._known: dict[Architecture, tuple[tuple[int, ...], list[float]]] = {}
        self._names: list[str] = []
        self._center = self._scale = self._largest = np.zeros(0)
        if costs and problem.cost_models:
            self._standardise(seed)

    def _standardise(self, seed: int) -> None:
        rng = stream(seed, "surrogate/costs")
        drawn = [self._problem.costs(sample(self._space.decisions, rng)) for _ in range(_SAMPLES)]
        names = list(self._problem.cost_models)
        values = np.array([[costs[name] for name in names] for costs in drawn], dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        useful = [place for place, column in enumerate(values.T) if len({*column[~np.isnan(column)]}) > 1]
        self._names = [names[place] for place in useful]
        values = values[:, useful]
        self._center, self._scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0) * math.sqrt(len(useful) or 1)
        self._largest = np.nanmax(values, axis=0) if useful else np.zeros(0)

    def __call__(self, architectures: Sequence[Architecture]) -> Features:
        """Return the features of architectures in canonical form."""
        found = [self._of(architecture) for architecture in architectures]
        codes = np.array([code for code, _ in found], dtype=np.float64).reshape(len(found), -1)
        costs = np.array([cost for _, cost in found], dtype=np.float64).reshape(len(found), len(self._names))
        costs = np.where(np.isfinite(costs), costs, self._largest)
        return Features(
            codes[:, self._kinds], codes[:, self._places] / self._lengths, (costs - self._center) / self._scale
        )

    def _of(self, architecture: Architecture) -> tuple[tuple[int, ...], list[float]]:
        known = self._known.get(architecture)
        if known is None:
            costs = self._problem.costs(architecture) if self._names else {}
            known = encode(architecture, self._space.decisions), [costs[name] for name in self._names]
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[architecture] = known
        return known
