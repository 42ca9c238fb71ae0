"""What remains of a Pareto front after its networks were trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from automl_nas.run.final.report import FinalNetwork
from automl_nas.strategy.problem import Direction


def dominating(
    objectives: Mapping[str, Direction], networks: Sequence[FinalNetwork], positions: Sequence[int]
) -> dict[int, int]:
    """Return position -> position of a network that dominates it, for those that one dominates after the training.

    Objectives are read from costs and test metrics. One that no network has, such as a metric of an evaluator only, is
    left out. A network without a value that another one has, such as a test metric that is not defined for its
    predictions, is not compared: it neither dominates nor is dominated. Of several that dominate a network, the first
    in ``positions`` is named.

    Args:
        objectives: of the search.
        networks: that were trained.
        positions: of those that are compared.
    """
    numbers = {position: {**(networks[position].test or {}), **networks[position].costs} for position in positions}
    present = [
        name for name in objectives if not all(math.isnan(values.get(name, math.nan)) for values in numbers.values())
    ]
    signs = [1 if objectives[name] == "maximize" else -1 for name in present]
    values = {
        position: [sign * own.get(name, math.nan) for sign, name in zip(signs, present, strict=True)]
        for position, own in numbers.items()
    }
    dominators: dict[int, int] = {}
    for position, own in values.items():
        for other, theirs in values.items():
            # NaN is not >= anything: a network without a value is not compared.
            if own != theirs and all(a >= b for a, b in zip(theirs, own, strict=True)):
                dominators.setdefault(position, other)
    return dominators
