"""Features of architectures and the distances between them, in decisions and in costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import getitem
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from automl_nas.evaluation import varies
from automl_nas.space import Architecture, Choice, Ordinal, SearchSpace, Value, encode
from automl_nas.strategy import FeasibleSampler, Problem
from automl_nas.streams import stream
from automl_nas_surrogate.gaussian_process import Array

_SAMPLES = 200  # architectures whose costs give mean and standard deviation
_CACHE_SIZE = 1 << 15
_FEW_OPTIONS = 16  # up to this number of options a product of one-hot codes is faster than a comparison of codes


@final
@dataclass(frozen=True)
class Features:
    """The features of n architectures.

    Attributes:
        unordered: index of the option of each `Choice`, and 0 or 1 for each option of a `Subset`, shape ``(n, k)``.
        ordered: position of the option of each `Ordinal`, from 0 (first) to 1 (last), shape ``(n, o)``.
        costs: standardised costs, shape ``(n, c)``.
        options: the largest number of options of a column of ``unordered``.
    """

    unordered: NDArray[Any]
    ordered: Array
    costs: Array
    options: int

    def distances(
        self, other: Features, kind: type[np.float64 | np.float32] = np.float64
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return the shares of decisions that differ, and squared distances of costs; each of shape ``(n, m)``.

        Without costs the second is None.

        Two options of an `Ordinal` differ by the distance of their positions.

        Args:
            other: m architectures.
            kind: of the numbers.
        """
        count = max(self.unordered.shape[1] + self.ordered.shape[1], 1)
        shares = np.true_divide(self.differing(other), count, dtype=kind, casting="same_kind")
        if not self.costs.shape[1]:
            return shares, None
        return shares, cdist(self.costs, other.costs, "sqeuclidean").astype(kind, copy=False)

    def differing(self, other: Features) -> NDArray[Any]:
        """Return the number of decisions that differ, shape ``(n, m)``, of 32 bits if all are whole numbers."""
        width = self.unordered.shape[1]
        if self.options > _FEW_OPTIONS:
            different: NDArray[Any] = np.rint(cdist(self.unordered, other.unordered, "hamming") * width)
        else:
            # The number of equal decisions is a product of one-hot codes; 32 bits hold it exactly.
            different = self._one_hot @ other._one_hot.T
            np.subtract(width, different, out=different)
        if self.ordered.shape[1]:
            different = different + cdist(self.ordered, other.ordered, "cityblock")
        return different

    def __len__(self) -> int:
        return len(self.unordered)

    def of(self, places: NDArray[np.intp] | slice) -> Features:
        """Return the features of some of these architectures: their indices."""
        return Features(self.unordered[places], self.ordered[places], self.costs[places], self.options)

    def concatenated(self, *others: Features) -> Features:
        """Return the features of these architectures followed by other ones."""
        every = (self, *others)
        return Features(
            np.concatenate([features.unordered for features in every]),
            np.concatenate([features.ordered for features in every]),
            np.concatenate([features.costs for features in every]),
            self.options,
        )

    @cached_property
    def _one_hot(self) -> NDArray[np.float32]:
        count, width = self.unordered.shape
        one_hot = np.zeros((count, width * self.options), dtype=np.float32)
        places = self.unordered.astype(np.intp)
        places += np.arange(width) * self.options
        one_hot[np.arange(count)[:, None], places] = 1.0
        return one_hot


@final
class Featurizer:
    """Computes the features of architectures.

    Costs are centred and divided by their standard deviation over uniform samples, and by the square root of the number
    of costs; so a second cost that is proportional to the first changes no distance. A cost that is not finite is
    replaced by the largest cost of the samples. Costs that are equal for all samples are omitted.

    Args:
        space: the decisions to compare.
        problem: the costs to compare.
        sampler: draws the samples; None: costs are not compared.
        seed: of the samples.
    """

    def __init__(self, space: SearchSpace, problem: Problem, sampler: FeasibleSampler | None, seed: int) -> None:
        self._space, self._problem = space, problem
        ordered = [
            (isinstance(decision, Ordinal), max(decision.size - 1, 1))
            for decision in space.decisions.values()
            for _ in range(decision.width)
        ]
        self._ordered = [place for place, (order, _) in enumerate(ordered) if order]
        self._unordered = [place for place, (order, _) in enumerate(ordered) if not order]
        self._lengths = np.array([length for order, length in ordered if order], dtype=np.float64)
        unordered = [decision for decision in space.decisions.values() if not isinstance(decision, Ordinal)]
        self._options = max((each.size if isinstance(each, Choice) else 2 for each in unordered), default=2)
        self._cache: dict[Architecture, tuple[Array, list[float]]] = {}
        self._rows: dict[Architecture, bytes] = {}  # the same without costs, if a byte holds every code
        # Without a Subset, and with options that also differ in Python (1 and True do not), a code is a few look-ups.
        self._tables: list[dict[Value, int]] | None = None
        self._decisions = list(space.decisions)
        self._small = all(
            isinstance(decision, Choice) and decision.size <= 256 for decision in space.decisions.values()
        )
        choices = {name: decision for name, decision in space.decisions.items() if isinstance(decision, Choice)}
        if len(choices) == len(space.decisions) and all(len({*c.options}) == c.size for c in choices.values()):
            self._tables = [
                {option: place for place, option in enumerate(decision.options)} for decision in choices.values()
            ]
        self._names: list[str] = []
        self._center = self._scale = self._largest = np.zeros(0)
        if sampler is not None and problem.cost_models:
            self._standardise(sampler, seed)

    def _standardise(self, sampler: FeasibleSampler, seed: int) -> None:
        rng = stream(seed, "surrogate/costs")
        sampled = [self._problem.costs(sampler.sample(rng)) for _ in range(_SAMPLES)]
        names = list(self._problem.cost_models)
        values = np.array([[costs[name] for name in names] for costs in sampled], dtype=np.float64)
        values[~np.isfinite(values)] = np.nan
        columns = [column[~np.isnan(column)] for column in values.T]
        useful = [place for place, column in enumerate(columns) if len(column) and varies(column)]
        self._names = [names[place] for place in useful]
        values = values[:, useful]
        self._center, self._scale = np.nanmean(values, axis=0), np.nanstd(values, axis=0) * math.sqrt(len(useful) or 1)
        self._largest = np.nanmax(values, axis=0) if useful else np.zeros(0)

    def __call__(self, architectures: Sequence[Architecture]) -> Features:
        """Return the features of architectures in canonical form."""
        if self._small and self._tables is not None and not self._names:
            rows = [self._rows.get(architecture) or self._row(architecture) for architecture in architectures]
            codes = np.frombuffer(b"".join(rows), np.uint8).reshape(len(architectures), len(self._tables))
            empty = np.zeros((len(architectures), 0))
            return Features(codes, empty, empty, self._options)
        encoded = [self._encode(architecture) for architecture in architectures]
        codes = np.array([code for code, _ in encoded]).reshape(len(encoded), len(self._ordered) + len(self._unordered))
        costs = np.array([cost for _, cost in encoded], dtype=np.float64).reshape(len(encoded), len(self._names))
        costs = np.where(np.isfinite(costs), costs, self._largest)
        return Features(
            codes[:, self._unordered],
            codes[:, self._ordered] / self._lengths,
            (costs - self._center) / self._scale,
            self._options,
        )

    def _row(self, architecture: Architecture) -> bytes:
        assert self._tables is not None
        row = bytes(self._places(self._tables, architecture))
        if len(self._rows) >= _CACHE_SIZE:
            self._rows.clear()
        self._rows[architecture] = row
        return row

    def _code(self, architecture: Architecture) -> Array:
        if self._tables is None:
            return np.array(encode(architecture, self._space.decisions), dtype=np.float64)
        codes = self._places(self._tables, architecture)
        return np.frombuffer(bytes(codes), np.uint8) if self._small else np.array(codes, dtype=np.float64)

    def _places(self, tables: Sequence[dict[Value, int]], architecture: Architecture) -> list[int]:
        ordered = list(architecture) == self._decisions
        values = architecture.values() if ordered else [architecture[name] for name in self._decisions]
        return list(map(getitem, tables, values))

    def _encode(self, architecture: Architecture) -> tuple[Array, list[float]]:
        encoded = self._cache.get(architecture)
        if encoded is None:
            costs = self._problem.costs(architecture) if self._names else {}
            encoded = self._code(architecture), [costs[name] for name in self._names]
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[architecture] = encoded
        return encoded
