"""Values of blocks, added up over networks: `BlockSums`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, Subset, Value
from automl_nas_costs.blocks.structure import BlockStructure, Key


@final
class BlockSums:
    """The sum of the values of a network's blocks, for one architecture or for many codes.

    Args:
        structure: the blocks of the space's networks.
        values: block -> value.

    Attributes:
        decisions: those that shape a part; the sum does not depend on the others.
    """

    def __init__(self, structure: BlockStructure, values: Mapping[Key, float]) -> None:
        self._structure = structure
        self._parts: list[tuple[tuple[str, ...], dict[tuple[Value, ...], float]]] = [
            (part.decisions, {taken: sum(values[key] for key in keys) for taken, keys in uses.items()})
            for part, uses in zip(structure.parts, structure.uses, strict=True)
        ]
        self.decisions = {name for part in structure.parts for name in part.decisions}
        self._coded: list[_CodedPart] | None = None

    def __call__(self, architecture: Architecture) -> float:
        """Return the sum for one architecture.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        try:
            return sum([times[tuple([architecture[name] for name in names])] for names, times in self._parts])
        except KeyError:
            for part, (names, times) in zip(self._structure.parts, self._parts, strict=True):
                if any(name not in architecture for name in names):
                    raise SpaceError(
                        f"the architecture lacks a decision of '{part.name}': {', '.join(names)}"
                    ) from None
                if tuple([architecture[name] for name in names]) not in times:
                    taken = ", ".join(f"{name} = {architecture[name]!r}" for name in names)
                    raise SpaceError(f"the part '{part.name}' has no block for {taken}") from None
            raise

    def parts(self, architecture: Architecture) -> list[tuple[str, float]]:
        """Return (name, value) of every part."""
        return [
            (part.name, times[tuple([architecture[name] for name in names])])
            for part, (names, times) in zip(self._structure.parts, self._parts, strict=True)
        ]

    def of_codes(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sums for the codes of architectures, shape ``(n, width)``, as shape ``(n,)``.

        Raises:
            SpaceError: a code is not that of an architecture.
        """
        if self._coded is None:
            self._coded = [_code(self._structure.decisions, names, times) for names, times in self._parts]
        total = np.zeros(len(codes))
        for part in self._coded:
            numbers = codes[:, part.columns] @ part.weights
            places = np.minimum(np.searchsorted(part.numbers, numbers), len(part.numbers) - 1)
            if not np.array_equal(part.numbers[places], numbers):
                raise SpaceError("a code is not that of an architecture of the space")
            total += part.values[places]
        return total


class _CodedPart(NamedTuple):
    """The values of one part, found by code.

    Attributes:
        columns: of the part's decisions in a code.
        weights: that turn these columns into one whole number.
        numbers: of all combinations, sorted.
        values: of the combinations.
    """

    columns: NDArray[Any]
    weights: NDArray[Any]
    numbers: NDArray[Any]
    values: NDArray[np.float64]


def _code(
    decisions: Mapping[str, Decision], names: tuple[str, ...], times: Mapping[tuple[Value, ...], float]
) -> _CodedPart:
    start = dict(zip(decisions, accumulate((d.width for d in decisions.values()), initial=0), strict=False))
    columns: list[int] = []
    bases: list[int] = []
    for name in names:
        width = decisions[name].width
        columns += list(range(start[name], start[name] + width))
        bases += [2 if isinstance(decisions[name], Subset) else len(decisions[name].options)] * width
    weights = [math.prod(bases[place + 1 :]) for place in range(len(bases))]
    # Python's whole numbers where 64 bits are not enough.
    kind = np.int64 if math.prod(bases) < 1 << 62 else object
    rows = []
    for taken in times:
        code = [n for name, value in zip(names, taken, strict=True) for n in decisions[name].encode(value)]
        rows.append(sum(weight * n for weight, n in zip(weights, code, strict=True)))
    order = sorted(range(len(rows)), key=rows.__getitem__)
    return _CodedPart(
        np.array(columns, dtype=np.int64),
        np.array(weights, dtype=kind),
        np.array([rows[place] for place in order], dtype=kind),
        np.array(list(times.values()))[order],
    )
