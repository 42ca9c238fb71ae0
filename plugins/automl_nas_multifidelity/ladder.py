"""The fidelities of a multi-fidelity search, and the sizes of rungs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul
from typing import final

from automl_nas.errors import ConfigurationError

ROUNDING = 1e-9
"""Quotients of fidelities are rounded: 3 candidates in 81 / 27 are one group of 3."""


@final
@dataclass(frozen=True)
class Ladder:
    """The fidelities of a search, and by how much the number of candidates falls from one to the next.

    Args:
        fidelities: at least two, ascending and positive.
        reduction: how many times fewer candidates each fidelity has than the one before; None: as many times fewer as
            the fidelity is higher, so that each rung costs the same.

    Raises:
        ConfigurationError: a value is outside its range.
    """

    fidelities: tuple[float, ...]
    reduction: float | None

    def __post_init__(self) -> None:
        values = self.fidelities
        if len(values) < 2:
            raise ConfigurationError(
                f"must be at least two fidelities, such as [12, 200], not {list(values)}",
                path="fidelities",
            )
        if not all(0 < value < math.inf for value in values) or any(a >= b for a, b in pairwise(values)):
            raise ConfigurationError(f"must be positive and ascending, not {list(values)}", path="fidelities")
        if self.reduction is not None and not 1 < self.reduction < math.inf:
            raise ConfigurationError(f"reduction must be above 1, not {self.reduction}", path="reduction")

    def factors(self, start: int = 0) -> list[float]:
        """Return how many times fewer candidates each rung has than the first one, for a bracket.

        Args:
            start: the number of the fidelity of the bracket's first rung.
        """
        values = self.fidelities[start:]
        steps = [b / a if self.reduction is None else self.reduction for a, b in pairwise(values)]
        return list(accumulate(steps, mul, initial=1.0))

    def sizes(self, candidates: int, start: int = 0) -> list[int]:
        """Return the number of candidates of each rung, at least 1: ``floor(candidates / factor)``.

        Args:
            candidates: in the first rung.
            start: the number of its fidelity.
        """
        return [max(1, math.floor(candidates / factor + ROUNDING)) for factor in self.factors(start)]

    def hyperband(self) -> list[tuple[int, int]]:
        """Return (start, candidates) of the brackets of Hyperband, the one with most candidates first.

        Li et al. 2018, algorithm 1, line 2: bracket s of s_max + 1 has ``ceil((s_max + 1) / (s + 1) eta^s)``
        candidates; ``eta^s`` is here the factor of the last rung.
        """
        count = len(self.fidelities)
        brackets = []
        for start in range(count):
            rungs = count - start
            brackets.append((start, math.ceil(count / rungs * self.factors(start)[-1] - ROUNDING)))
        return brackets


def checked_ladder(fidelities: Sequence[float], reduction: float | None) -> Ladder:
    """Return the ladder of settings."""
    return Ladder(tuple(float(value) for value in fidelities), reduction)
