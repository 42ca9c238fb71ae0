"""What remains of a Pareto front after its networks were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from automl_nas.run.final.report import FinalNetwork
from automl_nas.strategy.problem import Direction


def dominating(
    objectives: Mapping[str, Direction], networks: Sequence[FinalNetwork], positions: Sequence[int]
) -> dict[int, int]:
    """Return position -> position of a network that dominates it, for those that one dominates after the training.

    Objectives are read from costs and test metrics; an objective that a network does not have, such as a metric of
    an evaluator only, is left out. Of several that dominate a network, the first in ``positions`` is named.

    Args:
        objectives: of the search.
        networks: that were trained.
        positions: of those that are compared.
    """
    numbers = {position: {**(networks[position].test or {}), **networks[position].costs} for position in positions}
    common = [name for name in objectives if all(name in values for values in numbers.values())]
    signs = {name: 1 if objectives[name] == "maximize" else -1 for name in common}
    values = {position: [signs[name] * numbers[position][name] for name in common] for position in positions}
    dominators: dict[int, int] = {}
    for position, own in values.items():
        for other, theirs in values.items():
            if own != theirs and all(a >= b for a, b in zip(theirs, own, strict=True)):
                dominators.setdefault(position, other)
    return dominators
