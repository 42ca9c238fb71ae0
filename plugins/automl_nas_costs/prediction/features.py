"""Features of architectures for regressors: `OptionFeatures`; architectures without moot decisions: `Reduced`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space import Architecture, Decision, SearchSpace, Subset, Value, encode

Array: TypeAlias = NDArray[np.float64]


@final
class OptionFeatures:
    """One number for each option of each decision, 1 where it is chosen; then the number of times options are chosen.

    Decisions of equal options, such as the operations of several layers, are counted together, since networks with the
    same parts in other places have similar costs. Counts are divided by the root of the number of decisions, so that
    they vary as much as a single decision does.

    Args:
        space: of the architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = space.decisions
        sizes = [
            2 if isinstance(d, Subset) else len(d.options) for d in self._decisions.values() for _ in range(d.width)
        ]
        self._starts = np.cumsum([0, *sizes])
        groups: dict[tuple[Any, ...], list[int]] = {}
        column = 0
        for decision in self._decisions.values():
            if not isinstance(decision, Subset):
                groups.setdefault(_kinds(decision), []).append(column)
            column += decision.width
        counted = [(kinds, columns) for kinds, columns in groups.items() if len(columns) > 1]
        # Option -> count, with the weight of the option.
        self._counted = np.zeros((self.additive_width, sum(len(kinds) for kinds, _ in counted)))
        place = 0
        for kinds, columns in counted:
            for start in self._starts[columns]:
                self._counted[start : start + len(kinds), place : place + len(kinds)] += np.eye(len(kinds))
            self._counted[:, place : place + len(kinds)] /= math.sqrt(len(columns))
            place += len(kinds)

    @property
    def additive_width(self) -> int:
        """Number of columns for single options; the columns of counts, which are sums of them, follow."""
        return int(self._starts[-1])

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the features, shape ``(n, options + counts)``."""
        rows = [encode(architecture, self._decisions) for architecture in architectures]
        return self.of_codes(np.array(rows, dtype=np.int64).reshape(len(rows), len(self._starts) - 1))

    def of_codes(self, codes: NDArray[Any]) -> Array:
        """Return the features for the codes of architectures, shape ``(n, width)``."""
        taken = np.zeros((len(codes), self.additive_width))
        taken[np.arange(len(codes))[:, None], codes + self._starts[:-1]] = 1.0
        return np.concatenate((taken, taken @ self._counted), axis=1) if self._counted.shape[1] else taken


def _kinds(decision: Decision) -> tuple[Any, ...]:
    # 1, 1.0 and True are equal in Python and different options.
    return tuple((type(option), option) for option in decision.options)


CodingName: TypeAlias = Literal["raw", "used", "live"]
"""What of an architecture a device runs. ``raw``: every option. ``live``: a decision without effect, by
`SearchSpace.canonical`, costs what its first option costs. ``used``: the same, but only for a decision that has no
effect for any values of the decisions before it, so that no operation reads its result: compilers remove results that
nothing reads, few of them recognise that an input is all zeros."""

CODINGS: tuple[CodingName, ...] = ("raw", "used", "live")

_CACHED = 1 << 16


@final
class Reduced:
    """Architectures in which the decisions without effect have their first option.

    A decision has no effect if `SearchSpace.canonical` returns the same architecture for all its options. That takes
    one call for each option; results are cached.

    Args:
        space: of the architectures; its decisions are in the order in which data flows through the network.
        coding: see `CodingName`.
    """

    def __init__(self, space: SearchSpace, coding: CodingName) -> None:
        self._space, self._coding = space, coding
        self._cache: dict[Architecture, Architecture] = {}
        # Values of the decisions before another one: all first options, all second ones, and so on.
        choices = [decision for decision in space.decisions.values() if not isinstance(decision, Subset)]
        self._positions = range(max((len(decision.options) for decision in choices), default=1))

    def __call__(self, architecture: Architecture) -> Architecture:
        """Return the reduced architecture; the same object if all decisions have an effect."""
        if self._coding == "raw":
            return architecture
        reduced = self._cache.get(architecture)
        if reduced is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            reduced = self._cache[architecture] = self._reduce(architecture)
        return reduced

    def _reduce(self, architecture: Architecture) -> Architecture:
        canonical = self._space.canonical(architecture)
        changes: dict[str, Value] = {}
        earlier: list[str] = []
        for name, decision in self._space.decisions.items():
            if isinstance(decision, Subset):
                value, effective = architecture[name], canonical[name]
                assert isinstance(value, tuple) and isinstance(effective, tuple)
                alive = tuple(option for option in value if option in effective)
                if len(alive) >= decision.min:
                    changes[name] = alive
            elif len(decision.options) > 1 and self._moot(architecture, name, decision, earlier):
                changes[name] = decision.options[0]
            earlier.append(name)
        return architecture.replace(changes) if changes else architecture

    def _moot(self, architecture: Architecture, name: str, decision: Decision, earlier: list[str]) -> bool:
        def same(base: Architecture) -> bool:
            first = self._space.canonical(base)
            return all(self._space.canonical(base.replace({name: option})) == first for option in decision.options)

        if not same(architecture):
            return False
        return self._coding == "live" or all(same(self._before(architecture, earlier, k)) for k in self._positions)

    def _before(self, architecture: Architecture, earlier: list[str], position: int) -> Architecture:
        values: dict[str, Value] = {}
        for name in earlier:
            decision = self._space.decisions[name]
            if not isinstance(decision, Subset):
                values[name] = decision.options[min(position, len(decision.options) - 1)]
        return architecture.replace(values) if values else architecture


@lru_cache(maxsize=4)
def reducers(space: SearchSpace) -> dict[CodingName, Reduced]:
    """Return coding -> function that reduces architectures to it; cached for each space, with all results."""
    return {coding: Reduced(space, coding) for coding in CODINGS}
