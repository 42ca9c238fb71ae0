"""Values of decisions of every kind, for contracts."""

from __future__ import annotations

from automl_nas.space.architecture import Value
from automl_nas.space.decisions import Decision, Subset


def largest_code_sum(decision: Decision) -> int:
    """Return the largest sum of numbers in the code of a value."""
    if isinstance(decision, Subset):
        return decision.largest
    return max(sum(decision.encode(option)) for option in decision.options)


def example_value(decision: Decision, place: int) -> Value:
    """Return one of two different values, where there are two."""
    if isinstance(decision, Subset):
        first = decision.validate(decision.options[: max(decision.min, 1)])
        return [first, *decision.neighbours(first)][: 2 if place else 1][-1]
    return decision.options[place % decision.size]
