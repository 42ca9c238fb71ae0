"""What is counted of whole networks, as features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np

from automl_nas.errors import SpaceError
from automl_nas.evaluation.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas_costs.models import Flops, MemoryAccess, Params
from automl_nas_costs.prediction.features import Array


@final
class Counts:
    """Multiply-adds, parameters and memory access, each divided by the range it has in the space.

    Only what adds up over the decisions is used, since a network would have to be traced for anything else. A space
    that builds no networks, or one with operations that cannot be counted, has none.

    Args:
        space: of the architectures.
        enabled: whether anything is counted.
    """

    def __init__(self, space: SearchSpace, *, enabled: bool = True) -> None:
        self._space, self._enabled = space, enabled and bool(space.input_shape)

    @cached_property
    def _counters(self) -> list[tuple[TabulatedCost, float, float]]:
        found: list[tuple[TabulatedCost, float, float]] = []
        for model in (Flops(self._space), Params(self._space), MemoryAccess(self._space)) if self._enabled else ():
            cost = TabulatedCost(model, self._space)
            try:
                if not cost.additive:
                    continue
                extremes = cost.extremes()
            except SpaceError:
                continue
            if extremes.largest_value > extremes.smallest_value:
                found.append((cost, extremes.smallest_value, extremes.largest_value - extremes.smallest_value))
        return found

    @property
    def width(self) -> int:
        """How many there are."""
        return len(self._counters)

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the counts, shape ``(n, width)``, from 0 to the root of the number of decisions.

        As far apart as architectures are that differ in all decisions: so counts weigh as much as options do.
        """
        weight = math.sqrt(len(self._space.decisions))
        rows = [
            [weight * (cost.estimate(architecture) - low) / length for cost, low, length in self._counters]
            for architecture in architectures
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), self.width)
