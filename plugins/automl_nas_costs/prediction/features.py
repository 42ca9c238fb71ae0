"""Numbers that say what an architecture is: which options it takes, and how often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space import Architecture, Decision, SearchSpace, Subset, encode

Array: TypeAlias = NDArray[np.float64]


@final
class Options:
    """One number for each option of each decision, 1 where it is taken; then how often options are taken in all.

    Decisions of equal options, such as the operations of several layers, are counted together, since networks with the
    same parts in other places cost much the same. Counts are divided by the root of the number of decisions, so that
    they vary as much as a single decision does.

    Args:
        space: whose decisions they are.
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
        # Which option each count counts, and with which weight.
        self._counted = np.zeros((self.additive_width, sum(len(kinds) for kinds, _ in counted)))
        place = 0
        for kinds, columns in counted:
            for start in self._starts[columns]:
                self._counted[start : start + len(kinds), place : place + len(kinds)] += np.eye(len(kinds))
            self._counted[:, place : place + len(kinds)] /= math.sqrt(len(columns))
            place += len(kinds)

    @property
    def additive_width(self) -> int:
        """How many of the columns stand for single options; the counts, which are sums of them, follow."""
        return int(self._starts[-1])

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the features, shape ``(n, options + counts)``."""
        rows = [encode(architecture, self._decisions) for architecture in architectures]
        return self.of_codes(np.array(rows, dtype=np.int64).reshape(len(rows), len(self._starts) - 1))

    def of_codes(self, codes: NDArray[Any]) -> Array:
        """Return the features of architectures given by their codes, shape ``(n, width)``."""
        taken = np.zeros((len(codes), self.additive_width))
        taken[np.arange(len(codes))[:, None], codes + self._starts[:-1]] = 1.0
        return np.concatenate((taken, taken @ self._counted), axis=1) if self._counted.shape[1] else taken


def _kinds(decision: Decision) -> tuple[Any, ...]:
    # 1, 1.0 and True are equal in Python and different options.
    return tuple((type(option), option) for option in decision.options)
