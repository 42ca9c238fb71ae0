"""Costs of many architectures at once: `CostTable`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from fractions import Fraction
from operator import getitem
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.costs.additivity import AdditiveFit, NotAdditiveError, fit, verification_points, verify
from automl_nas.evaluation.costs.exact_counting import decoded, integers, items_of
from automl_nas.evaluation.costs.expectation import expected
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.sums import Sums
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import encode
from automl_nas.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

    from automl_nas.space.selection import Selection

__all__ = ["CostTable", "NotAdditiveError"]

_ROWS = 1 << 14  # of codes that are processed at once: they fit into the processor's cache
_MOST_CACHED_SUBSETS = 1 << 16


@final
class CostTable:
    """A cost that is a sum over decisions: ``base`` plus the contribution of each selected option.

    Use `build`. The costs of a metric of whole numbers are Python integers, exact for every size. Other costs are
    multiples of a power of two near 2^-50 of the range, so that they do not depend on the order of summation either.

    Args:
        model: the cost model, for its metric and unit.
        decisions: the decisions of the space.
        additive: base and contributions.
    """

    def __init__(self, model: CostModel, decisions: Mapping[str, Decision], additive: AdditiveFit) -> None:
        self.metric, self.unit, self.integral = model.metric, model.unit, model.integral
        self._decisions = dict(decisions)
        self._base, self._units, self._quantum = additive.base, dict(additive.units), additive.quantum
        self._lookup: list[tuple[str, dict[Value, int]]] = []
        for name, decision in self._decisions.items():
            contributions: dict[Value, int] = dict(zip(decision.options, self._units[name], strict=True))
            # 1 and True are different options but the same key of a dict: `_validated_cost` looks up such decisions.
            usable = not isinstance(decision, Subset) and len(contributions) == len(decision.options)
            self._lookup.append((name, contributions if usable else {}))
        self._names, self._tables = list(self._decisions), [contributions for _, contributions in self._lookup]
        magnitude = abs(self._base) + sum(abs(unit) for units in self._units.values() for unit in units)
        self._bound = max(magnitude, math.prod(decision.size for decision in self._decisions.values()))
        self._columns = [integers(units, magnitude) for units in self._code_units()]
        self._cached_sums: Sums | None = None

    @classmethod
    def build(cls, model: CostModel, space: SearchSpace, *, seed: int = 0, checks: int = 64) -> CostTable:
        """Fit a table to a cost model and verify it.

        Args:
            model: any cost model of the space.
            space: the search space.
            seed: of the architectures on which the table is verified.
            checks: the number of these architectures; a space with at most this many is verified completely.

        Raises:
            NotAdditiveError: the model's cost of some architecture is not the sum over its decisions.
            SpaceError: the model returns NaN or infinity, or a fraction although it is ``integral``.
        """
        decisions = space.decisions
        table = cls(model, decisions, fit(model, decisions))
        (cheapest, low), (most_expensive, high) = table.smallest, table.largest
        for architecture in verification_points(decisions, (cheapest, most_expensive), seed, checks):
            verify(model, architecture, table.estimate(architecture), max(abs(low), abs(high)))
        return table

    @property
    def base(self) -> float:
        """The cost before contributions are added."""
        return self._value(self._base)

    @property
    def contributions(self) -> Mapping[str, tuple[float, ...]]:
        """Decision name -> contribution of each option, in the order of the options.

        The contribution of the cheapest option of a Choice or an Ordinal is 0. That of an element of a Subset is its
        own cost; if all subsets have the same size, it is relative to the first element.
        """
        return {name: tuple(self._value(unit) for unit in units) for name, units in self._units.items()}

    @property
    def units(self) -> Mapping[str, tuple[int, ...]]:
        """The contributions as whole numbers: of the metric's unit, or of the power of two that is the grid."""
        return dict(self._units)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions of the space."""
        return dict(self._decisions)

    def _value(self, units: int) -> float:
        return units if self.integral else units * self._quantum

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of one architecture.

        Raises:
            SpaceError: the architecture is not valid in this space.
        """
        try:
            # Decisions are nearly always in the order of the space, and then no Python loop is needed.
            if self._names == [*architecture]:
                total = self._base + sum(map(getitem, self._tables, architecture.values()))
            else:
                total = self._base + sum(table[architecture[name]] for name, table in self._lookup)
        except KeyError:
            total = self._validated_cost(architecture)
        return total if self.integral else total * self._quantum

    def _validated_cost(self, architecture: Architecture) -> int:
        """Return the cost of an architecture after validating it; the costs of subsets are cached."""
        total = self._base
        for name, table in self._lookup:
            decision = self._decisions[name]
            if name not in architecture:
                raise SpaceError(f"the architecture lacks the decision '{name}'")
            try:
                value = decision.validate(architecture[name])
            except SpaceError as error:
                raise SpaceError(f"decision '{name}': {error}") from None
            if isinstance(decision, Subset):
                cost = sum(unit for unit, bit in zip(self._units[name], decision.encode(value), strict=True) if bit)
                if len(table) >= _MOST_CACHED_SUBSETS:
                    table.clear()
                table[architecture[name]] = cost
            else:
                cost = self._units[name][decision.position(value)]
            total += cost
        return total

    def _code_units(self) -> list[tuple[int, ...]]:
        """Return the contributions of the values 0, 1, ... of each number of a code."""
        columns: list[tuple[int, ...]] = []
        for name, decision in self._decisions.items():
            units = self._units[name]
            columns += [(0, unit) for unit in units] if isinstance(decision, Subset) else [units]
        return columns

    def encode(self, architectures: Iterable[Architecture]) -> NDArray[np.int32]:
        """Return the codes of architectures, shape ``(n, width)``; see `automl_nas.space.operators.encode`."""
        rows = [encode(architecture, self._decisions) for architecture in architectures]
        return np.array(rows, dtype=np.int32).reshape(len(rows), len(self._columns))

    def estimates(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Return the costs of many architectures, equal to `estimate` for each.

        Args:
            codes: integers, shape ``(n, width)``, as `encode` returns them.

        Returns:
            Shape ``(n,)``: int64 for whole numbers (Python integers beyond 2^62), otherwise float64.

        Raises:
            SpaceError: the shape is wrong, or a number is outside the codes of its decision.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self._columns) or codes.dtype.kind not in "iu":
            raise SpaceError(
                f"codes must be integers of shape (n, {len(self._columns)}), not {codes.dtype} of shape {codes.shape}"
            )
        self._check_codes(codes)
        kind: Any = np.result_type(*self._columns) if self._columns else np.int64
        totals = np.full(len(codes), self._base, dtype=kind)
        for start in range(0, len(codes), _ROWS):
            part = codes[start : start + _ROWS].T
            for column, units in zip(part, self._columns, strict=True):
                totals[start : start + _ROWS] += units[column]
        return totals if self.integral else totals.astype(np.float64) * self._quantum

    def _check_codes(self, codes: NDArray[Any]) -> None:
        if not len(codes):
            return
        sizes = np.array([len(units) for units in self._columns])
        low, high = codes.min(axis=0), codes.max(axis=0)
        start = 0
        for name, decision in self._decisions.items():
            columns = slice(start, start + decision.width)
            if (low[columns] < 0).any() or (high[columns] >= sizes[columns]).any():
                raise SpaceError(f"the codes of decision '{name}' must be from 0 to {sizes[start] - 1}")
            if isinstance(decision, Subset) and (decision.min > 0 or decision.largest < decision.width):
                counts = codes[:, columns].sum(axis=1)
                if counts.min() < decision.min or counts.max() > decision.largest:
                    raise SpaceError(f"decision '{name}' must have {decision.min} to {decision.largest} options")
            start = columns.stop

    def expectation(self, selection: Selection) -> Tensor:
        """Return the expected cost of a selection, differentiable in its tensors.

        See `automl_nas.evaluation.costs.expectation.expected`, which this method calls with the table's numbers.
        """
        return expected(self.base, self.contributions, self._decisions, selection)

    @property
    def smallest(self) -> tuple[Architecture, float]:
        """The cheapest architecture and its cost; of several, the one with the first options."""
        return self._extreme(1)

    @property
    def largest(self) -> tuple[Architecture, float]:
        """The most expensive architecture and its cost; of several, the one with the first options."""
        return self._extreme(-1)

    def _extreme(self, sign: int) -> tuple[Architecture, float]:
        values: dict[str, Value] = {}
        for name, decision in self._decisions.items():
            units = self._units[name]
            order = sorted(range(len(units)), key=lambda index: (sign * units[index], index))
            if isinstance(decision, Subset):
                improving = sum(sign * unit < 0 for unit in units)
                chosen = sorted(order[: min(max(improving, decision.min), decision.largest)])
                values[name] = tuple(decision.options[index] for index in chosen)
            else:
                values[name] = decision.options[order[0]]
        architecture = Architecture(values)
        return architecture, self.estimate(architecture)

    def count(self, low: float = -math.inf, high: float = math.inf) -> int:
        """Return the exact number of raw architectures that cost at least ``low`` and at most ``high``.

        Raises:
            SpaceError: a limit is NaN, or there are too many distinct costs (`MOST_SUMS`).
        """
        interval = self.unit_interval(low, high)
        return self._sums.count(*interval) if interval[0] <= interval[1] else 0

    def sample(self, rng: random.Random, low: float = -math.inf, high: float = math.inf) -> Architecture:
        """Draw exactly uniformly among the raw architectures that cost ``low`` to ``high``, without rejection.

        Raises:
            InfeasibleError: no architecture has such a cost; the message names the nearest costs.
            SpaceError: as in `count`.
        """
        interval = self.unit_interval(low, high)
        if interval[0] > interval[1] or not self._sums.count(*interval):
            raise InfeasibleError(self._infeasible_message(low, high, interval))
        return decoded(self._decisions, self._sums.draw(*interval, rng))

    def unit_interval(self, low: float, high: float) -> tuple[int, int]:
        """Return the limits in whole units (see `units`) above the base; both are included."""
        if math.isnan(low) or math.isnan(high):
            raise SpaceError(f"a limit of {self.metric} is NaN")
        ends = [self._bound if limit > 0 else -self._bound for limit in (low, high)]
        quantum = Fraction(1 if self.integral else self._quantum)
        if math.isfinite(low):
            ends[0] = math.ceil(Fraction(low) / quantum) - self._base
        if math.isfinite(high):
            ends[1] = math.floor(Fraction(high) / quantum) - self._base
        return ends[0], ends[1]

    def cost_of(self, units: int) -> float:
        """Return the cost of an architecture whose contributions add up to a number of units."""
        return self._value(self._base + units)

    def _infeasible_message(self, low: float, high: float, interval: tuple[int, int]) -> str:
        limits = [f"at least {low:,}"] * (low > -math.inf) + [f"at most {high:,}"] * (high < math.inf)
        parts = [f"no architecture has {self.metric} of {' and '.join(limits)} {self.unit}"]
        below, above = self._sums.nearest(*interval)
        if below is not None:
            value = self.cost_of(below)
            parts.append(f"the nearest cost below is {value:,} ({low - value:,.10g} too low)")
        if above is not None:
            value = self.cost_of(above)
            parts.append(f"the nearest cost above is {value:,} ({value - high:,.10g} too high)")
        return "; ".join(parts)

    @property
    def _sums(self) -> Sums:
        if self._cached_sums is None:
            items = items_of(self._decisions.values(), self._units.values(), self._bound)
            self._cached_sums = Sums(items, self._bound)
        return self._cached_sums
