"""Architectures, decisions and operators: laws by hypothesis, counts and distributions by brute force."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, DecisionSpace, Ordinal, Subset, operators

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-2, 2), st.text("ab.é", max_size=3))
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))
OPTIONS = st.lists(SCALARS, min_size=1, max_size=5, unique_by=lambda option: (type(option), option))


@st.composite
def decisions(draw: st.DrawFn) -> Decision:
    kind = draw(st.sampled_from(["choice", "ordinal", "subset"]))
    if kind == "ordinal":
        return Ordinal(tuple(sorted(draw(st.sets(st.integers(-9, 9), min_size=1, max_size=5)))))
    options = tuple(draw(OPTIONS))
    if kind == "choice":
        return Choice(options)
    low = draw(st.integers(0, len(options)))
    return Subset(options, low, draw(st.one_of(st.none(), st.integers(low, len(options)))))


# Architectures.


def exact(value: object) -> object:
    """A value with the types of its parts, so that 1, 1.0 and True differ as they do in JSON."""
    return [exact(item) for item in value] if isinstance(value, list | tuple) else (type(value).__name__, repr(value))


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=2), VALUES, max_size=3), st.randoms())
def test_architectures_are_equal_when_their_json_is(values: dict[str, object], rng: random.Random) -> None:
    architecture = Architecture(values)
    names = list(values)
    rng.shuffle(names)
    for same in (
        Architecture({name: values[name] for name in names}),
        Architecture.from_json(architecture.key),
        Architecture(architecture.to_dict()),
        pickle.loads(pickle.dumps(architecture)),  # noqa: S301 - our own bytes
    ):
        assert same == architecture
        assert hash(same) == hash(architecture)
        assert same.key == architecture.key
        assert {name: exact(same[name]) for name in same} == {name: exact(value) for name, value in values.items()}
    # The standard library writes letters and exponents differently, but reads the same values.
    assert list(json.loads(architecture.key)) == sorted(values)
    read, same = json.loads(architecture.key), json.loads(json.dumps(values))
    assert {name: exact(read[name]) for name in read} == {name: exact(same[name]) for name in sorted(same)}
    assert ": " not in architecture.key


def test_keys_hold_every_number_and_letter() -> None:
    for value in (1 << 70, -(1 << 63), 1e16, 1e-7, -0.0, "\ud800", 'é\n"', None, True):
        read = Architecture.from_json(Architecture({"a": value}).key)
        assert exact(read["a"]) == exact(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, -math.inf]])
def test_values_that_json_cannot_represent_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="JSON scalars"):
        Architecture({"a": value})


@given(VALUES, VALUES)
def test_different_values_make_different_architectures(first: object, second: object) -> None:
    equal = Architecture({"a": first}) == Architecture({"a": second})
    assert equal == (exact(first) == exact(second))


def test_numbers_that_are_equal_in_python_are_different_options() -> None:
    assert len({Architecture({"a": value}) for value in (1, 1.0, True)}) == 3


@pytest.mark.parametrize("value", [nn.Identity(), {"a": 1}, [[1]], {1}, b"x"])
def test_an_architecture_holds_json_scalars_only(value: object) -> None:
    with pytest.raises(TypeError, match="JSON scalars"):
        Architecture({"a": value})


def test_an_architecture_cannot_be_changed() -> None:
    values = {"a": 1, "b": [1, 2]}
    architecture = Architecture(values)
    changed = architecture.replace({"a": 2})
    values["a"] = 9
    assert (architecture["a"], changed["a"], architecture["b"]) == (1, 2, (1, 2))
    with pytest.raises(TypeError):
        architecture["a"] = 3  # type: ignore[index]
    assert architecture.replace({"not an identifier": 1})["not an identifier"] == 1


# Decisions.


@given(decisions(), st.randoms(use_true_random=False))
def test_laws_of_decisions(decision: Decision, rng: random.Random) -> None:
    """Samples and neighbours are valid, decode inverts encode, and the size counts all values."""
    everything = list(operators.all_values(decision))
    assert len(everything) == decision.size == len({json.dumps(value) for value in everything})
    value = decision.sample(rng)
    near = list(decision.neighbours(value))
    for each in (value, *near):
        assert exact(decision.validate(each)) == exact(each)
        code = decision.encode(each)
        assert len(code) == decision.width
        assert exact(decision.decode(code)) == exact(each)
    assert exact(value) not in [exact(each) for each in near]
    # Neighbourhood is symmetric.
    assert all(exact(value) in [exact(back) for back in decision.neighbours(each)] for each in near)


@given(OPTIONS, st.data())
def test_size_of_a_subset_by_brute_force(options: list[object], data: st.DataObject) -> None:
    low = data.draw(st.integers(0, len(options)))
    high = data.draw(st.integers(low, len(options)))
    subset = Subset(tuple(options), low, high)  # type: ignore[arg-type]
    counted = [chosen for k in range(low, high + 1) for chosen in itertools.combinations(options, k)]
    assert subset.size == len(counted)
    assert Counter(map(repr, map(exact, operators.all_values(subset)))) == Counter(map(repr, map(exact, counted)))


@pytest.mark.parametrize(
    "decision", [Choice(("a", "b", "c")), Ordinal((1, 2, 4)), Subset((1, 2, 3), 1, 2), Subset((1, 2))]
)
def test_sampling_is_uniform(decision: Decision) -> None:
    """Chi-square of 6,000 draws, fixed seed; the 99.99 % points for 2, 3 and 5 degrees of freedom are below 26."""
    rng, draws = random.Random(5), 6000
    counts = Counter(decision.sample(rng) for _ in range(draws))
    expected = draws / decision.size
    assert len(counts) == decision.size
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 26


def test_sampled_neighbours_are_a_sample_of_all_neighbours() -> None:
    decisions: dict[str, Decision] = {
        "a": Choice((0, 1, 2, 3, 4)),
        "b": Ordinal((1, 2, 4)),
        "c": Subset(("x", "y", "z")),
    }
    for seed in range(20):
        architecture = operators.sample(decisions, random.Random(seed))
        near = list(operators.neighbours(architecture, decisions))
        drawn = operators.sample_neighbours(architecture, decisions, random.Random(seed), 3)
        assert drawn == random.Random(seed).sample(near, 3)
        assert operators.sample_neighbours(architecture, decisions, random.Random(seed), len(near)) == near


def test_neighbours() -> None:
    assert list(Choice(("a", "b", "c")).neighbours("b")) == ["a", "c"]
    assert list(Ordinal((1, 2, 4)).neighbours(1)) == [2]
    assert list(Ordinal((1, 2, 4)).neighbours(2)) == [1, 4]
    assert set(Subset((1, 2, 3), 1, 2).neighbours((1, 2))) == {(2,), (1,)}
    assert set(Subset((1, 2, 3), 1, 2).neighbours((3,))) == {(1, 3), (2, 3)}


@pytest.mark.parametrize(
    ("decision", "value", "message"),
    [
        (Choice(("conv3", "conv5")), "conv_3", "did you mean 'conv3'"),
        (Choice((1, 2)), True, "True is not an option"),
        (Choice((1, 2)), 1.0, "1.0 is not an option"),
        (Choice((1, 2)), [1], "not an option"),
        (Subset(("a", "b")), "a", "not a tuple of options"),
        (Subset(("a", "b")), ("a", "a"), "names an option twice"),
        (Subset(("a", "b"), 1), (), "has 0 options, allowed are 1 to 2"),
        (Subset(("a", "b"), 0, 1), ("a", "b"), "has 2 options"),
    ],
)
def test_invalid_values_are_refused(decision: Decision, value: object, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        decision.validate(value)


def test_validate_sorts_a_subset() -> None:
    assert Subset(("a", "b", "c")).validate(["c", "a"]) == ("a", "c")


def test_ill_formed_decisions_are_refused() -> None:
    with pytest.raises(SpaceError, match="at least one option"):
        Choice(())
    with pytest.raises(SpaceError, match="twice"):
        Choice(("a", "a"))
    with pytest.raises(SpaceError, match="increasing"):
        Ordinal((2, 1))
    for low, high in ((0, 3), (-1, 1), (2, 1)):
        with pytest.raises(SpaceError, match="cannot have min="):
            Subset((1, 2), low, high)
    assert Choice((1, True, 1.0)).size == 3


# Operators and spaces.


spaces = st.lists(decisions(), min_size=1, max_size=4).map(
    lambda ds: DecisionSpace({f"d{i}": d for i, d in enumerate(ds)})
)


@settings(max_examples=60)
@given(spaces, st.integers(0, 99))
def test_laws_of_operators(space: DecisionSpace, seed: int) -> None:
    rng = random.Random(seed)
    first, second = space.sample(rng), space.sample(rng)
    child = operators.crossover(first, second, rng)
    mutant = operators.mutate(first, space.decisions, rng, 0.5)
    for each in (first, second, child, mutant, *operators.neighbours(first, space.decisions)):
        assert space.validate(each) == each
        code = operators.encode(each, space.decisions)
        assert operators.decode(code, space.decisions) == each
        with pytest.raises(SpaceError, match="numbers"):
            operators.decode((*code, 0), space.decisions)
    for name in space.decisions:
        assert exact(child[name]) in (exact(first[name]), exact(second[name]))
    assert operators.mutate(first, space.decisions, rng, 0.0) == first
    near = list(operators.neighbours(first, space.decisions))
    assert len(set(near)) == len(near)
    assert all(sum(exact(other[n]) != exact(first[n]) for n in first) == 1 for other in near)
    if space.size > 1:
        other = operators.mutate_one(first, space.decisions, rng)
        assert sum(exact(other[n]) != exact(first[n]) for n in first) == 1
    else:
        with pytest.raises(SpaceError, match="nothing to mutate"):
            operators.mutate_one(first, space.decisions, rng)
    assert space.canonical(first) == first
    assert space.segments() == (tuple(space.decisions),)


def test_enumeration_counts_with_the_last_decision_fastest() -> None:
    space = DecisionSpace({"a": Choice(("x", "y")), "b": Ordinal((1, 2, 3)), "c": Subset((0, 1))})
    everything = list(operators.enumerate_all(space.decisions))
    assert len(everything) == space.size == 2 * 3 * 4 == len(set(everything))
    assert [dict(each) for each in everything[:2]] == [{"a": "x", "b": 1, "c": ()}, {"a": "x", "b": 1, "c": (0,)}]
    assert [each["a"] for each in everything] == ["x"] * 12 + ["y"] * 12


def test_rates_of_mutation_and_crossover() -> None:
    """SPOS: each of 20 genes is redrawn with probability 0.1, so 0.1 * 3/4 change; crossover takes half from each.

    20,000 genes each: five standard deviations are 5 * sqrt(p (1-p) / 20,000).
    """
    decisions: dict[str, Decision] = {f"d{i}": Choice((0, 1, 2, 3)) for i in range(20)}
    rng = random.Random(0)
    zeros, ones = (Architecture(dict.fromkeys(decisions, value)) for value in (0, 1))
    changed = sum(v != 0 for _ in range(1000) for v in operators.mutate(zeros, decisions, rng).values()) / 20_000
    assert abs(changed - 0.075) < 5 * math.sqrt(0.075 * 0.925 / 20_000)
    taken = sum(v == 1 for _ in range(1000) for v in operators.crossover(zeros, ones, rng).values()) / 20_000
    assert abs(taken - 0.5) < 5 * math.sqrt(0.25 / 20_000)


@pytest.mark.process
def test_importing_the_space_package_does_not_import_torch() -> None:
    code = (
        "import automl_nas.space as s, sys; s.Architecture, s.Subset, s.SearchSpace, s.operators; assert dir(s); "
        + ("sys.exit('torch' in sys.modules)")
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_choice_draws_like_randrange() -> None:
    for count in range(1, 40):
        choice, ours, theirs = Choice(tuple(range(count))), random.Random(count), random.Random(count)
        assert [choice.sample(ours) for _ in range(20)] == [theirs.randrange(count) for _ in range(20)]


@pytest.mark.parametrize("decision", [Choice((1, True)), Subset((0, False), min=1, max=1)])
def test_options_that_are_equal_in_python_mutate_into_each_other(decision: Decision) -> None:
    parent = Architecture({"a": decision.sample(random.Random(0))})
    assert operators.mutate_one(parent, {"a": decision}, random.Random(1)) != parent
