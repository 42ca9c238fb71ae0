"""`TabulatedCost`: a cost model that uses a table if its cost is additive, and the model itself otherwise."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import PluginError
from automl_nas.evaluation.costs.additivity import NotAdditiveError, checked_estimate, corner
from automl_nas.evaluation.costs.by_module import ModuleCosts, NotLocalError
from automl_nas.evaluation.costs.model import CostModel, checked_breakdown
from automl_nas.evaluation.costs.pairwise import architecture_at, pairwise_costs
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture
from automl_nas.space.covering import allowed
from automl_nas.space.operators import decode, enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream

ENUMERABLE = 4096
"""The largest number of architectures of a space that is enumerated to find its extremes without a table."""

_log = logging.getLogger(__name__)
_RANDOM_STARTS = 2
_MOST_CACHED = 1 << 16  # costs without a table


@dataclass(frozen=True)
class Extremes:
    """The cheapest and the most expensive architecture of a space.

    Attributes:
        smallest: an architecture with the smallest cost.
        smallest_value: its cost.
        largest: an architecture with the largest cost.
        largest_value: its cost.
        exact: whether these are the extremes for certain; False: they are results of a local search.
    """

    smallest: Architecture
    smallest_value: float
    largest: Architecture
    largest_value: float
    exact: bool


@final
class TabulatedCost(CostModel):
    """The cost of another model, from a verified table if the cost is additive, otherwise from the model itself.

    The values are those of the model in both cases. The table is built when it is first needed, which takes as many
    estimates of the model as `CostTable.build`. Without a table, costs in whole numbers that are sums of a breakdown
    are added up from modules that were counted before (`ModuleCosts`), once there were a few times as many estimates
    as that takes to begin. All methods that need a value raise SpaceError if the model returns NaN for an
    architecture. An architecture that the space excludes costs infinity.

    Args:
        model: any cost model of the space.
        space: the search space.
        seed: of the architectures on which additivity is verified.
        checks: the number of these architectures.

    Raises:
        PluginError: the model has no class attribute ``metric`` or ``unit``.
    """

    def __init__(self, model: CostModel, space: SearchSpace, *, seed: int = 0, checks: int = 64) -> None:
        for name, example in (("metric", "flops"), ("unit", "ms")):
            if not isinstance(getattr(model, name, None), str):
                raise PluginError(
                    f"the cost model {type(model).__qualname__} (module {type(model).__module__}) needs a class "
                    f"attribute '{name}', a string such as '{example}'"
                )
        # Class attributes of every other model; here they depend on the model inside.
        self.metric, self.unit, self.integral = model.metric, model.unit, model.integral  # type: ignore[misc]
        self.noisy = model.noisy  # type: ignore[misc]
        self._model, self._space, self._seed = model, space, seed
        self._cached_estimate = lru_cache(maxsize=_MOST_CACHED)(self._checked_estimate)
        self._checks, self._estimated = checks, 0
        self._table_estimates = checks + sum(len(decision.options) for decision in space.decisions.values())
        self._table: CostTable | None = None
        self._modules: ModuleCosts | None = None
        self._reason = ""
        self._estimate: Callable[[Architecture], float] = self._first_estimate
        self._extremes: Extremes | None = None

    def _checked_estimate(self, architecture: Architecture) -> float:
        if self._space.exclusions and not self._space.exclusions.allows(architecture):
            return math.inf
        if self._modules is not None:
            try:
                return self._modules.estimate(architecture)
            except NotLocalError as error:
                self._modules = None
                self._cached_estimate.cache_clear()
                _log.warning(
                    "costs '%s' were added up from modules, and one sum was wrong: %s. From here on each network is "
                    "counted; candidates that were judged before may have had a wrong cost",
                    self.metric,
                    error,
                )
        return checked_estimate(self._model, architecture, allow_infinite=True)

    def _first_estimate(self, architecture: Architecture) -> float:
        # A table returns the same whole numbers: build it after as many estimates as it takes to build.
        if self.integral and self._estimated < self._table_estimates:
            self._estimated += 1
            return self._cached_estimate(architecture)
        self._prepare()
        return self._estimate(architecture)

    def _untabulated_estimate(self, architecture: Architecture) -> float:
        if self._cached_estimate.cache_info().misses >= 3 * self._table_estimates:
            self._estimate = self._cached_estimate
            try:
                self._modules = ModuleCosts(self._model, self._space, seed=self._seed, checks=self._checks)
            except NotLocalError as error:
                _log.debug("%s: every network is counted: %s", self.metric, error)
        return self._cached_estimate(architecture)

    def _prepare(self) -> None:
        if self._estimate != self._first_estimate:
            return
        if self.noisy:
            self._reason = "the cost is measured, so that two estimates are never exactly equal"
            self._estimate = self._cached_estimate
            return
        if self._space.exclusions:
            self._reason = "a table needs the costs of combinations of options that the space excludes"
            self._estimate = self._cached_estimate
            return
        if self._model.listing() is not None:
            # Random checks of additivity would meet no listed architecture.
            self._reason = "only listed architectures have a cost of their own"
            self._estimate = self._cached_estimate
            return
        try:
            self._table = CostTable.build(self._model, self._space, seed=self._seed, checks=self._checks)
            self._estimate = self._table.estimate
        except NotAdditiveError as error:
            self._reason = str(error)
            sums = self.integral and type(self._model).estimate is CostModel.estimate
            self._estimate = self._untabulated_estimate if sums else self._cached_estimate

    @property
    def model(self) -> CostModel:
        """The cost model whose values these are."""
        return self._model

    @property
    def table(self) -> CostTable | None:
        """The table; None if the cost is not additive."""
        self._prepare()
        return self._table

    @property
    def reason(self) -> str:
        """The reason why the cost is not tabulated; empty if it is."""
        self._prepare()
        return self._reason

    @property
    def additive(self) -> bool:
        """Whether the cost is additive, so that values come from a table."""
        return self.table is not None

    def note(self) -> str:
        """Return the note of the model."""
        return self._model.note()

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the breakdown of the model: module path -> value."""
        return checked_breakdown(self._model, architecture)

    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        """Return the listing of the model."""
        return self._model.listing()

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the remarks of the model."""
        return self._model.remarks(architecture)

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of one architecture: from the table if there is one, otherwise from the model, cached."""
        return self._estimate(architecture)

    def estimates(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return the costs of many architectures, as `CostTable.estimates` does; without a table one by one."""
        if self.table is not None:
            return self.table.estimates(codes)
        costs = [self.estimate(self._space.validate(decode(code.tolist(), self._space.decisions))) for code in codes]
        return np.array(costs, dtype=np.int64 if self.integral else np.float64)

    def extremes(self) -> Extremes:
        """Return the cheapest and the most expensive architecture.

        They are exact for an additive cost, for a space of at most `ENUMERABLE` architectures, and for a cost that
        lists architectures (`CostModel.listing`). If the cost is a sum over pairs of decisions, as the costs of widths
        are, few architectures of such a space are estimated (`pairwise_costs`). Otherwise extremes are the results of
        deterministic local searches, which start at the first and at the last options and change one decision at a
        time while that improves the cost; if both end with different costs, two more start at random architectures.
        ``exact`` is then False.
        """
        if self._extremes is None:
            self._extremes = self._find_extremes()
        return self._extremes

    def exact_extremes(self) -> Extremes | None:
        """Return `extremes` if they are exact, otherwise None: the search takes minutes in a large graph."""
        if self.noisy:
            return None
        exact = self.table is not None or self._space.size <= ENUMERABLE or self._model.listing() is not None
        return self.extremes() if exact else None

    def ends(self) -> list[Architecture]:
        """Return the architectures of the first and of the last options that the space does not exclude."""
        decisions = self._space.decisions
        return [*allowed([corner(decisions, first=True), corner(decisions, first=False)], self._space.exclusions)]

    def _find_extremes(self) -> Extremes:
        if self.table is not None:
            return Extremes(*self.table.smallest, *self.table.largest, exact=True)
        listing = self._model.listing()
        if self._space.size <= ENUMERABLE and listing is None and (pair := self._pairwise_ends()):
            return Extremes(pair[0], self.estimate(pair[0]), pair[1], self.estimate(pair[1]), exact=True)
        if self._space.size <= ENUMERABLE or listing is not None:
            costs = {a: self.estimate(a) for a in self._listed(listing) or enumerate_all(self._space.decisions)}
            # Networks that do not run (an infinite cost) are left out: limits are relative to networks that run.
            costs = {architecture: cost for architecture, cost in costs.items() if math.isfinite(cost)} or costs
            low, high = min(costs, key=costs.__getitem__), max(costs, key=costs.__getitem__)
            return Extremes(low, costs[low], high, costs[high], exact=True)
        ends = [self._local_search(sign) for sign in (-1, 1)]
        return Extremes(ends[0], self.estimate(ends[0]), ends[1], self.estimate(ends[1]), exact=False)

    def _pairwise_ends(self) -> tuple[Architecture, Architecture] | None:
        """Return the extremes of a cost that is a sum over pairs of decisions; None if it is not."""
        decisions = self._space.decisions
        if self._space.exclusions:
            return None
        costs = pairwise_costs(self.estimate, decisions, seed=self._seed, checks=self._checks)
        if costs is None:
            return None
        return architecture_at(decisions, int(costs.argmin())), architecture_at(decisions, int(costs.argmax()))

    def _listed(self, listing: tuple[Sequence[Architecture], float] | None) -> list[Architecture]:
        """Return the listed architectures and one other, if random draws meet one; [] for a space to enumerate."""
        if listing is None or self._space.size <= ENUMERABLE:
            return []
        listed = dict.fromkeys(self._space.validate(architecture) for architecture in listing[0])
        rng = stream(self._seed, "extremes", _RANDOM_STARTS)
        draws = (self._space.sample(rng) for _ in range(ENUMERABLE))
        other = next((architecture for architecture in draws if architecture not in listed), None)
        return [*listed] if other is None else [*listed, other]

    def _local_search(self, sign: int) -> Architecture:
        """Return the best result of several local searches: ``sign`` 1 maximizes the cost, -1 minimizes it."""
        decisions = self._space.decisions

        def score(architecture: Architecture) -> float:
            cost = self.estimate(architecture)
            return sign * cost if math.isfinite(cost) else -math.inf  # a network that does not run is not an extreme

        def climbed(architecture: Architecture) -> tuple[float, Architecture]:
            current = score(architecture)
            improved = True
            while improved:
                improved = False
                for name, decision in decisions.items():
                    for option in decision.neighbours(architecture[name]):
                        neighbour = architecture.replace({name: option})
                        if (neighbour_score := score(neighbour)) > current:
                            architecture, current, improved = neighbour, neighbour_score, True
            return current, architecture

        results = [climbed(end) for end in self.ends()]
        if len({cost for cost, _ in results}) != 1:  # a cost that grows with every option has one extreme
            rngs = (stream(self._seed, "extremes", number) for number in range(_RANDOM_STARTS))
            results += [climbed(self._space.sample(rng)) for rng in rngs]
        return max(results, key=lambda result: result[0])[1]
