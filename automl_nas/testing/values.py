"""Values of decisions, for contract tests."""

from __future__ import annotations

from automl_nas.space.architecture import Value
from automl_nas.space.decisions import Decision, Subset


def largest_code_sum(decision: Decision) -> int:
    """Return the largest sum of the numbers in a code of the decision."""
    if isinstance(decision, Subset):
        return decision.largest
    return max(sum(decision.encode(option)) for option in decision.options)


def example_value(decision: Decision, number: int) -> Value:
    """Return value number 0 or 1 of a decision; they differ if it has more than one value."""
    if isinstance(decision, Subset):
        first = decision.validate(decision.options[: max(decision.min, 1)])
        return [first, *decision.neighbours(first)][: 2 if number else 1][-1]
    return decision.options[number % decision.size]
