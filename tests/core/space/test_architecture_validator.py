"""`ArchitectureValidator.validate` is `SearchSpace.validate`, only faster for what operators make."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, Ordinal, SearchSpace, Subset
from automl_nas.space.architecture_validator import ArchitectureValidator
from automl_nas.space.operators import crossover, mutate


class Mixed(SearchSpace):
    """One decision of each kind, and options that are equal in Python and different in JSON."""

    @property
    def decisions(self) -> Mapping[str, Decision]:
        # Made anew at each call, as a space may: options are compared as they were when the object was made.
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
    """Without the subset: the fast way is open."""

    def __init__(self) -> None:
        self._decisions = {name: item for name, item in super().decisions.items() if name != "edges"}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions


@pytest.mark.parametrize("space", [Mixed(), Simple()])
def test_what_operators_make_comes_back_as_it_is(space: SearchSpace) -> None:
    rng = random.Random(0)
    members = ArchitectureValidator(space)
    for _ in range(200):
        one, two = space.sample(rng), space.sample(rng)
        for made in (one, mutate(one, space.decisions, rng, 0.5), crossover(one, two, rng)):
            assert members.validate(made) is made
            assert space.validate(made) == made


@pytest.mark.parametrize("space", [Mixed(), Simple()])
def test_equal_values_from_elsewhere_are_members(space: SearchSpace) -> None:
    read = Architecture.from_json(space.sample(random.Random(1)).key)
    assert ArchitectureValidator(space).validate(read) == read


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
def test_others_are_refused_as_the_space_refuses_them(message: str, values: dict[str, Any]) -> None:
    space = Simple()
    with pytest.raises(SpaceError, match=message) as theirs:
        space.validate(values)
    with pytest.raises(SpaceError) as ours:
        ArchitectureValidator(space).validate(Architecture(values))
    assert str(ours.value) == str(theirs.value)
