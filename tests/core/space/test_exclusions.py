"""Combinations of options that exclude each other: sampled, trained, evaluated and delivered are the others."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Mapping
from itertools import product

import pytest
import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    Architecture,
    Choice,
    Decision,
    DecisionSpace,
    Exclusions,
    ModuleSpace,
    OneOf,
    Ordinal,
    Subset,
    enumerate_all,
)
from automl_nas.space.covering import allowed, cover_options
from automl_nas.testing import SupernetContract

DECISIONS: Mapping[str, Decision] = {
    "a": Choice((0, 1, 2)),
    "b": Choice(("x", "y", "z")),
    "c": Ordinal((1, 2)),
    "d": Subset(("p", "q"), min=0),
}


def conv(channels: int, out: int) -> nn.Module:
    return nn.Conv2d(channels, out, 3, padding=1)


def untied() -> nn.Module:
    """Return a network whose two widths must be equal, although they are two decisions."""
    return nn.Sequential(
        OneOf({"narrow": conv(1, 4), "wide": conv(1, 8)}),
        OneOf({"relu": nn.ReLU(), "none": nn.Identity()}),
        OneOf({"narrow": conv(4, 2), "wide": conv(8, 2)}),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


UNEQUAL = ({"0": "narrow", "2": "wide"}, {"0": "wide", "2": "narrow"})


def test_what_is_excluded() -> None:
    """Compared with the definition, over all architectures."""
    exclusions = Exclusions(DECISIONS, [{"a": [1, 2], "b": "x"}, {"c": 2, "d": "q", "a": 0}])
    for architecture in enumerate_all(DECISIONS):
        first = architecture["a"] in (1, 2) and architecture["b"] == "x"
        second = architecture["c"] == 2 and "q" in architecture["d"] and architecture["a"] == 0
        assert exclusions.allows(architecture) is not (first or second)
        assert len(exclusions.matched(architecture)) == first + second


def test_true_and_one_are_two_options() -> None:
    decisions = {"a": Choice((1, True)), "b": Choice((0, 1))}
    exclusions = Exclusions(decisions, [{"a": True, "b": 1}])
    assert exclusions.combinations == ({"a": (True,), "b": (1,)},)
    assert exclusions.allows(Architecture({"a": 1, "b": 1}))
    assert not exclusions.allows(Architecture({"a": True, "b": 1}))


def test_sampling_is_uniform_among_the_others() -> None:
    space = DecisionSpace({"a": Choice((0, 1, 2)), "b": Choice((0, 1, 2))}, exclude=[{"a": 0, "b": [0, 1]}])
    rng = random.Random(1)
    seen = Counter(tuple(space.sample(rng).values()) for _ in range(7 * 300))
    assert set(seen) == set(product(range(3), repeat=2)) - {(0, 0), (0, 1)}
    # 300 expected of each of 7; chi-square with 6 degrees of freedom exceeds 22.5 once in 1000 seeds.
    assert sum((n - 300) ** 2 / 300 for n in seen.values()) < 22.5
    assert space.size == 9


def test_without_exclusions_samples_are_as_before() -> None:
    space = DecisionSpace(DECISIONS)
    for seed in range(20):
        rng = random.Random(seed)
        expected = {name: decision.sample(rng) for name, decision in DECISIONS.items()}
        assert dict(space.sample(random.Random(seed))) == expected


def test_the_nearest_allowed_architecture_differs_in_one_decision() -> None:
    exclusions = Exclusions(DECISIONS, [{"a": 1, "b": "y"}, {"a": 0, "b": "x"}])
    for architecture in enumerate_all(DECISIONS):
        near = exclusions.nearest(architecture)
        assert near is not None
        assert exclusions.allows(near)
        differing = [name for name in DECISIONS if near[name] != architecture[name]]
        assert len(differing) == (0 if exclusions.allows(architecture) else 1)


def test_covering_architectures_are_allowed_and_distinct() -> None:
    exclusions = Exclusions(DECISIONS, [{"a": 0, "b": "x"}, {"a": 2, "b": "z"}])
    rows = list(allowed(cover_options(DECISIONS, 8), exclusions))
    assert rows
    assert len(set(rows)) == len(rows)
    assert all(map(exclusions.allows, rows))


@pytest.mark.parametrize(
    ("combination", "message"),
    [
        ({"a": 0}, "combination 0 names 1 decisions, and a combination has at least two; remove an option"),
        ({}, "names 0 decisions"),
        ({"a": 0, "bb": "x"}, "the space has no decision 'bb'; did you mean 'b'"),
        ({"a": 0, "b": "xx"}, "decision 'b': 'xx' is not an option"),
        ({"a": 0, "b": []}, "names no option of 'b'"),
        ({"a": True, "b": "x"}, "decision 'a': True is not an option"),
        ("a", "must map names of decisions to options"),
        ({"a": [0, 1, 2], "b": ["x", "y", "z"]}, "each of 10,000 random architectures has an excluded combination"),
    ],
)
def test_wrong_combinations(combination: Mapping[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        DecisionSpace(DECISIONS, exclude=[combination])
    with pytest.raises(SpaceError, match=message):
        Exclusions(DECISIONS, [combination])


def test_a_module_space() -> None:
    space = ModuleSpace(untied, input_shape=(1, 4, 4), exclude=UNEQUAL)
    rng = random.Random(0)
    for _ in range(30):
        architecture = space.sample(rng)
        assert architecture["0"] == architecture["2"]
        space.build(architecture)(torch.zeros(2, 1, 4, 4))
    assert space.weighable == {"1"}
    copy = pickle.loads(pickle.dumps(space))  # noqa: S301 - made here
    assert copy.exclusions.combinations == space.exclusions.combinations
    with pytest.raises(SpaceError, match="the space has no decision '3'"):
        ModuleSpace(untied, input_shape=(1, 4, 4), exclude=[{"0": "wide", "3": "wide"}])


def test_the_largest_network_may_be_excluded() -> None:
    """With other orders of the options, the networks of all first and of all last options do not exist."""

    def crossed() -> nn.Module:
        return nn.Sequential(
            OneOf({"narrow": conv(1, 4), "wide": conv(1, 8)}),
            OneOf({"wide": conv(8, 2), "narrow": conv(4, 2)}),
        )

    with pytest.raises(SpaceError, match="the smallest network does not run"):
        ModuleSpace(crossed, input_shape=(1, 4, 4))
    unequal = [{"0": "narrow", "1": "wide"}, {"0": "wide", "1": "narrow"}]
    space = ModuleSpace(crossed, input_shape=(1, 4, 4), exclude=unequal)
    assert {tuple(space.sample(random.Random(seed)).values()) for seed in range(20)} == {
        ("narrow", "narrow"),
        ("wide", "wide"),
    }


class TestExcludingSpace(SupernetContract):
    """The contract of spaces holds for the architectures that are not excluded."""

    def make_space(self) -> ModuleSpace:
        """See the base class."""
        return ModuleSpace(untied, input_shape=(1, 4, 4), exclude=UNEQUAL)

    def weighable(self, space: object) -> frozenset[str]:
        """See the base class."""
        return frozenset({"1"})
