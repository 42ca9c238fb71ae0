"""Numbers that say what an architecture is: which options it takes, and how often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import encode
from automl_nas.space.space import SearchSpace

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
        self._sizes = np.array(
            [2 if isinstance(d, Subset) else len(d.options) for d in self._decisions.values() for _ in range(d.width)]
        )
        self._places: list[tuple[int, ...]] = []
        groups: dict[tuple[Any, ...], list[int]] = {}
        column = 0
        for decision in self._decisions.values():
            if not isinstance(decision, Subset):
                groups.setdefault(_kinds(decision), []).append(column)
            column += decision.width
        self._groups = [columns for columns in groups.values() if len(columns) > 1]

    @property
    def additive_width(self) -> int:
        """How many of the columns stand for single options; the counts, which are sums of them, follow."""
        return int(self._sizes.sum())

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the features, shape ``(n, options + counts)``."""
        rows = [encode(architecture, self._decisions) for architecture in architectures]
        return self.of_codes(np.array(rows, dtype=np.int64).reshape(len(rows), len(self._sizes)))

    def of_codes(self, codes: NDArray[Any]) -> Array:
        """Return the features of architectures given by their codes, shape ``(n, width)``."""
        taken = [codes[:, [column]] == np.arange(size) for column, size in enumerate(self._sizes)]
        counts = [
            sum(taken[column].astype(float) for column in group) / math.sqrt(len(group)) for group in self._groups
        ]
        return np.concatenate([*(part.astype(float) for part in taken), *counts], axis=1)


def _kinds(decision: Decision) -> tuple[Any, ...]:
    # 1, 1.0 and True are equal in Python and different options.
    return tuple((type(option), option) for option in decision.options)
