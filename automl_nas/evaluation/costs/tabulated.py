"""`TabulatedCost`: any cost model, from a table where its cost is additive and counted exactly where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation.costs.additivity import NotAdditiveError, checked_estimate, corner
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import decode, enumerate_all, sample
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream

ENUMERABLE = 4096
"""A space of at most so many architectures is enumerated where nothing better is known about its extremes."""

_RANDOM_STARTS = 2
_KEPT = 1 << 16  # values counted without a table that are remembered


@dataclass(frozen=True)
class Extremes:
    """The cheapest and the dearest architecture of a space.

    Attributes:
        smallest: an architecture of the smallest cost.
        smallest_value: its cost.
        largest: an architecture of the largest cost.
        largest_value: its cost.
        exact: whether certainly nothing is smaller or larger; otherwise they are what a local search found.
    """

    smallest: Architecture
    smallest_value: float
    largest: Architecture
    largest_value: float
    exact: bool


@final
class TabulatedCost(CostModel):
    """The same cost as another model, from a verified table if it is additive, else from the model itself.

    Values, whole numbers in particular, are those of the model either way. The table is built when a value is first
    asked for, which costs as many estimates of the model as `CostTable.build`.

    Args:
        model: any cost model of the space.
        space: what is searched.
        seed: of the architectures on which additivity is tested.
        checks: how many of them.

    Whatever asks for a value raises SpaceError if the model cannot give a finite number for some architecture.
    """

    def __init__(self, model: CostModel, space: SearchSpace, *, seed: int = 0, checks: int = 64) -> None:
        # The metric is a class's own in every other model; here it is that of the model inside.
        self.metric, self.unit, self.integral = model.metric, model.unit, model.integral  # type: ignore[misc]
        self.noisy = model.noisy  # type: ignore[misc]
        self._model, self._space, self._seed = model, space, seed
        self._counted: Callable[[Architecture], float] = lru_cache(maxsize=_KEPT)(
            lambda architecture: checked_estimate(model, architecture, endless=True)
        )
        self._checks, self._asked = checks, 0
        self._worth = checks + sum(len(decision.options) for decision in space.decisions.values())
        self._table: CostTable | None = None
        self._reason = ""
        self._estimate: Callable[[Architecture], float] = self._first_estimate
        self._extremes: Extremes | None = None

    def _first_estimate(self, architecture: Architecture) -> float:
        # Exact numbers are the same from a table: it is built when it has become the cheaper way.
        if self.integral and self._asked < self._worth:
            self._asked += 1
            return self._counted(architecture)
        self._prepare()
        return self._estimate(architecture)

    def _prepare(self) -> None:
        if self._estimate != self._first_estimate:
            return
        if self.noisy:
            self._reason = "it is measured, so no two estimates agree exactly"
            self._estimate = self._counted
            return
        try:
            self._table = CostTable.build(self._model, self._space, seed=self._seed, checks=self._checks)
            self._estimate = self._table.estimate
        except NotAdditiveError as error:
            self._reason = str(error)
            self._estimate = self._counted

    @property
    def model(self) -> CostModel:
        """The model inside."""
        return self._model

    @property
    def table(self) -> CostTable | None:
        """The table; None if the cost is not additive."""
        self._prepare()
        return self._table

    @property
    def reason(self) -> str:
        """Why there is no table; empty if there is one."""
        self._prepare()
        return self._reason

    @property
    def additive(self) -> bool:
        """Whether values come from a table."""
        return self.table is not None

    def note(self) -> str:
        """Return the model's own note."""
        return self._model.note()

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the model's own account, module path -> value."""
        return self._model.breakdown(architecture)

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the model's own remarks."""
        return self._model.remarks(architecture)

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of one architecture: microseconds with a table, else one count, remembered."""
        return self._estimate(architecture)

    def estimates(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return the costs of many architectures as `CostTable.estimates` does; without a table, one by one."""
        if self.table is not None:
            return self.table.estimates(codes)
        found = [self.estimate(self._space.validate(decode(code.tolist(), self._space.decisions))) for code in codes]
        return np.array(found, dtype=np.int64 if self.integral else np.float64)

    def extremes(self) -> Extremes:
        """Return the cheapest and the dearest architecture.

        Exact for an additive cost, and for a space of at most `ENUMERABLE` architectures. Otherwise a deterministic
        search changes one decision at a time while that helps, from the first options, the last ones and two random
        architectures, and the result says that it is not exact.
        """
        if self._extremes is None:
            self._extremes = self._find()
        return self._extremes

    def exact_extremes(self) -> Extremes | None:
        """Return what `extremes` does, or None where that would be a search, which takes minutes in a large graph."""
        if self.noisy:
            return None
        return self.extremes() if self.table is not None or self._space.size <= ENUMERABLE else None

    def _find(self) -> Extremes:
        if self.table is not None:
            return Extremes(*self.table.smallest, *self.table.largest, exact=True)
        if self._space.size <= ENUMERABLE:
            known = {architecture: self.estimate(architecture) for architecture in enumerate_all(self._space.decisions)}
            # What does not run is no larger than what does: limits are relative to networks that run.
            known = {item: value for item, value in known.items() if math.isfinite(value)} or known
            low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
            return Extremes(low, known[low], high, known[high], exact=True)
        ends = [self._climb(sign) for sign in (-1, 1)]
        return Extremes(ends[0], self.estimate(ends[0]), ends[1], self.estimate(ends[1]), exact=False)

    def _climb(self, sign: int) -> Architecture:
        """Return the best of several local searches; ``sign`` 1 looks for the largest, -1 for the smallest."""
        decisions = self._space.decisions

        def height(architecture: Architecture) -> float:
            cost = self.estimate(architecture)
            return sign * cost if math.isfinite(cost) else -math.inf  # it does not run, and is no extreme

        starts = [corner(decisions, first=True), corner(decisions, first=False)]
        starts += [sample(decisions, stream(self._seed, "extremes", number)) for number in range(_RANDOM_STARTS)]
        best, best_value = starts[0], -math.inf
        for here in starts:
            value = height(here)
            improved = True
            while improved:
                improved = False
                for name, decision in decisions.items():
                    for option in decision.neighbours(here[name]):
                        other = here.replaced({name: option})
                        if (found := height(other)) > value:
                            here, value, improved = other, found, True
            if value > best_value:
                best, best_value = here, value
        return best
