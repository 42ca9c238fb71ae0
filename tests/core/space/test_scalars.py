"""Options and values are plain Python scalars, whatever NumPy or an Enum supplied; what JSON cannot hold is refused."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum

import numpy as np
import pytest

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, DecisionSpace, Ordinal, Subset
from automl_nas.space.scalars import plain_scalar


class Kind(Enum):
    CONV = "conv"
    NESTED = np.int64(7)


class Name(StrEnum):
    RELU = "relu"


class Width(IntEnum):
    NARROW = 8
    WIDE = 16


class Text(str):
    """A string that prints as something else."""

    def __str__(self) -> str:
        return "something else"


VALUES = [
    (np.int64(8), 8),
    (np.uint8(3), 3),
    (np.float64(0.5), 0.5),
    (np.float32(0.25), 0.25),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (Kind.CONV, "conv"),
    (Kind.NESTED, 7),
    (Name.RELU, "relu"),
    (Width.WIDE, 16),
    (Text("a"), "a"),
    (2**80, 2**80),
    (None, None),
]


@pytest.mark.parametrize(("value", "plain"), VALUES)
def test_values_become_plain(value: object, plain: object) -> None:
    for result in (plain_scalar(value), Choice((value,)).options[0], Architecture({"d": value})["d"]):  # type: ignore[arg-type]
        assert result == plain
        assert type(result) is type(plain)
    assert json.loads(Architecture({"d": value}).key) == {"d": plain}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), np.float64("-inf"), np.datetime64("2020"), 1j, b"a", (1,)]
)
@pytest.mark.parametrize("kind", [Choice, Ordinal, Subset])
def test_what_json_cannot_hold_is_refused_at_construction(
    kind: Callable[[tuple[object, ...]], Decision], value: object
) -> None:
    with pytest.raises(SpaceError, match=f"option 1 of an? {kind.__name__} cannot be recorded: .*JSON"):  # type: ignore[attr-defined]
        kind((1, value))


def test_equal_plain_options_are_the_same_option_twice() -> None:
    with pytest.raises(SpaceError, match="the same option twice"):
        Choice((np.int64(8), Width.NARROW))  # type: ignore[arg-type]


def test_numpy_ordinals_are_checked_for_their_order() -> None:
    assert Ordinal(tuple(np.arange(8, 32, 8))).options == (8, 16, 24)
    with pytest.raises(SpaceError, match="increasing"):
        Ordinal((np.int64(16), np.int64(8)))  # type: ignore[arg-type]


def test_the_limits_of_a_subset_become_plain() -> None:
    subset = Subset((1, 2, 3), min=np.int64(1), max=np.int64(2))  # type: ignore[arg-type]
    assert (type(subset.min), type(subset.max), subset.size) == (int, int, 6)
    with pytest.raises(SpaceError, match="whole numbers"):
        Subset((1, 2), min=0.5)  # type: ignore[arg-type]


def test_values_that_users_pass_are_validated_as_plain_values() -> None:
    space = DecisionSpace({"kind": Choice(("conv", "relu")), "width": Ordinal((8, 16)), "set": Subset(("a", "b"))})
    values = {"kind": Name.RELU, "width": np.int64(16), "set": [np.str_("b"), np.str_("a")]}
    for candidate in (values, Architecture(values)):
        architecture = space.validate(candidate)
        assert architecture.to_dict() == {"kind": "relu", "width": 16, "set": ["a", "b"]}
        assert [type(value) for value in architecture.values()] == [str, int, tuple]
    with pytest.raises(SpaceError, match=re.escape("decision 'width': np.float64(16.0) is not an option")):
        space.validate({**values, "width": np.float64(16)})
    assert space.sample(random.Random(0)) == space.sample(random.Random(0))


def test_an_architecture_names_the_decision_that_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match=r"decision 'width': .*nan is not a JSON scalar"):
        Architecture({"kind": "conv", "width": float("nan")})
