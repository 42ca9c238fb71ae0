"""`SearchSpace.validate`: architectures that operators built are returned at once, others are checked."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, Ordinal, SearchSpace, Subset
from automl_nas.space.operators import crossover, mutate


class Mixed(SearchSpace):
    """One decision of each kind, and options that are equal in Python and different in JSON."""

    @property
    def decisions(self) -> Mapping[str, Decision]:
        # Built anew at each call, as a space may do: its architectures are always checked.
        return {
            "kind": Choice(("conv", "pool", "a long name with spaces")),
            "bit": Choice((0, 1, True, 1.5)),
            "width": Ordinal((16, 32, 4096)),
            "edges": Subset((0, 1, 2), min=1),
        }

    @property
    def input_shape(self) -> tuple[int, ...]:
        return ()

    def build(self, architecture: Architecture) -> nn.Module:
        raise SpaceError("it has no networks")


class Simple(Mixed):
    """Returns the same mapping each time, so that architectures of its decisions are recognised."""

    def __init__(self) -> None:
        self._decisions = {name: item for name, item in super().decisions.items() if name != "edges"}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions


@pytest.mark.parametrize("space", [Mixed(), Simple()])
def test_architectures_of_operators_are_returned_themselves(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(200):
        one, two = space.sample(rng), space.sample(rng)
        for built in (one, mutate(one, space.decisions, rng, 0.5), crossover(one, two, rng)):
            assert space.validate(built) is built
            assert space.validate(dict(built)) == built


@pytest.mark.parametrize("space", [Mixed(), Simple()])
def test_equal_values_from_elsewhere_are_valid(space: SearchSpace) -> None:
    read = Architecture.from_json(space.sample(random.Random(1)).key)
    assert space.validate(read) == read
    assert list(space.validate(read)) == list(space.decisions)


def wrong() -> list[tuple[str, dict[str, Any]]]:
    good = {"kind": "conv", "bit": 1, "width": 32}
    return [
        ("lacks the decision 'width'", {"kind": "conv", "bit": 1}),
        ("no decision 'wdth'", {"kind": "conv", "bit": 1, "wdth": 32}),
        ("no decision 'more'", {**good, "more": 1}),
        ("'width': ", {**good, "width": 33}),
        ("'kind': ", {**good, "kind": 1}),
        ("'bit': ", {**good, "bit": 1.0}),  # equal to 1 and True, which are options
        ("'bit': ", {**good, "bit": False}),
        ("'bit': ", {**good, "bit": "conv"}),  # an option of another decision
    ]


@pytest.mark.parametrize(("message", "values"), wrong())
def test_invalid_architectures_raise_the_same_error_as_their_values(message: str, values: dict[str, Any]) -> None:
    space = Simple()
    with pytest.raises(SpaceError, match=message) as theirs:
        space.validate(values)
    with pytest.raises(SpaceError) as ours:
        space.validate(Architecture(values))
    assert str(ours.value) == str(theirs.value)
