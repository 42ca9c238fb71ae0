"""Values of decisions, for contract tests."""

from __future__ import annotations

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.covering import cover_options
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.space import SearchSpace


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


def valid_covering(space: SearchSpace, most: int) -> list[Architecture]:
    """Return architectures that together have every option, as far as the space does not exclude their combinations.

    Args:
        space: the space.
        most: see `cover_options`.
    """
    return [space.validate(item) for item in cover_options(space.decisions, most) if is_valid(space, item)]


def is_valid(space: SearchSpace, architecture: Architecture) -> bool:
    """Whether an architecture is of the space, and is not excluded."""
    try:
        valid = space.validate(architecture)
    except SpaceError:
        return False
    return space.exclusions.allows(valid)
