"""A value for every block, added up over networks: `PartSums`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, SearchSpace, Subset, Value
from automl_nas_costs.prediction.blocks import Key, Plan
from automl_nas_costs.prediction.features import Array


@final
class PartSums:
    """What the blocks of a network add up to, for one architecture or for many encoded ones.

    Args:
        plan: how networks are put together.
        values: of each block.

    Attributes:
        decisions: that shape something; all but these may be anything.
    """

    def __init__(self, plan: Plan, values: Mapping[Key, float]) -> None:
        self.plan = plan
        self._parts: list[tuple[tuple[str, ...], dict[tuple[Value, ...], float]]] = [
            (part.decisions, {taken: sum(values[key] for key in keys) for taken, keys in uses.items()})
            for part, uses in zip(plan.parts, plan.uses, strict=True)
        ]
        self.decisions = {name for part in plan.parts for name in part.decisions}
        self._coded: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any], Array]] | None = None

    def __call__(self, architecture: Architecture) -> float:
        """Return the sum for one architecture.

        Raises:
            SpaceError: it is not of the space.
        """
        try:
            return sum([times[tuple([architecture[name] for name in names])] for names, times in self._parts])
        except KeyError:
            for part, (names, times) in zip(self.plan.parts, self._parts, strict=True):
                if any(name not in architecture for name in names):
                    raise SpaceError(
                        f"the architecture lacks a decision of '{part.name}': {', '.join(names)}"
                    ) from None
                if tuple([architecture[name] for name in names]) not in times:
                    taken = ", ".join(f"{name} = {architecture[name]!r}" for name in names)
                    raise SpaceError(f"there is no block '{part.name}' with {taken}") from None
            raise

    def parts(self, architecture: Architecture) -> list[tuple[str, float]]:
        """Return (place, value) of every part."""
        return [
            (part.name, times[tuple([architecture[name] for name in names])])
            for part, (names, times) in zip(self.plan.parts, self._parts, strict=True)
        ]

    def of_codes(self, codes: NDArray[Any], space: SearchSpace) -> Array:
        """Return the sums for architectures given by their codes, shape ``(n, width)``, as shape ``(n,)``.

        Raises:
            SpaceError: a code that no architecture has.
        """
        if self._coded is None:
            self._coded = [self._code(space, names, times) for names, times in self._parts]
        total = np.zeros(len(codes))
        for columns, weights, known, values in self._coded:
            numbers = codes[:, columns] @ weights
            places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
            if not np.array_equal(known[places], numbers):
                raise SpaceError("a code stands for no architecture of the space")
            total += values[places]
        return total

    @staticmethod
    def _code(
        space: SearchSpace, names: tuple[str, ...], times: Mapping[tuple[Value, ...], float]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Array]:
        """Return the columns of some decisions, what turns their numbers into one, all such numbers, and values."""
        decisions = space.decisions
        start = dict(zip(decisions, accumulate((d.width for d in decisions.values()), initial=0), strict=False))
        columns: list[int] = []
        bases: list[int] = []
        for name in names:
            width = decisions[name].width
            columns += list(range(start[name], start[name] + width))
            bases += [2 if isinstance(decisions[name], Subset) else len(decisions[name].options)] * width
        weights = [math.prod(bases[place + 1 :]) for place in range(len(bases))]
        # Whole numbers of Python where those of 64 bits are too small.
        kind = np.int64 if math.prod(bases) < 1 << 62 else object
        rows = []
        for taken in times:
            code = [n for name, value in zip(names, taken, strict=True) for n in decisions[name].encode(value)]
            rows.append(sum(weight * n for weight, n in zip(weights, code, strict=True)))
        order = sorted(range(len(rows)), key=rows.__getitem__)
        return (
            np.array(columns, dtype=np.int64),
            np.array(weights, dtype=kind),
            np.array([rows[place] for place in order], dtype=kind),
            np.array(list(times.values()))[order],
        )
