"""`IntegerCodec`: sampling and changing integers gives the same results as the operators on architectures."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, Ordinal, Subset, operators
from automl_nas.space.integer_codec import IntegerCodec

SPACES: dict[str, Mapping[str, Decision]] = {
    "many of as many options": {f"d{place}": Choice(("a", "b", "c")) for place in range(40)},
    "many of one option": {f"d{place}": Choice((7,)) for place in range(20)} | {"free": Choice((1, 2))},
    "many of 255 options": {f"d{place}": Choice(tuple(range(255))) for place in range(17)},
    "many of 256 options": {f"d{place}": Choice(tuple(range(256))) for place in range(17)},
    "choices": {f"d{place}": Choice(("none", "skip", "conv3", "conv5", "pool")) for place in range(6)},
    "of sizes": {"one": Choice(("only",)), "two": Choice((8, 16)), "many": Ordinal(tuple(range(256)))},
    "more than a byte": {"wide": Ordinal(tuple(range(257))), "flag": Choice((True, False))},
    "alike in python": {"same": Choice((1, True, 1.0, 2)), "other": Choice(("a", "b"))},
    "subsets": {
        "edges": Subset(("x", "y", "z", "w"), min=1, max=3),
        "width": Ordinal((8, 16, 32)),
        "all": Subset(tuple(range(40))),
    },
}
spaces = pytest.mark.parametrize("decisions", SPACES.values(), ids=SPACES.keys())


@spaces
def test_integers_take_the_same_draws_as_the_operators(decisions: Mapping[str, Decision]) -> None:
    """Results and the generator's state afterwards are equal, so a search may use either."""
    codec = IntegerCodec(decisions)
    for seed in range(200):
        one, other = random.Random(seed), random.Random(seed)
        first, second = operators.sample(decisions, one), operators.sample(decisions, one)
        a, b = codec.sample(other), codec.sample(other)
        pairs = [(first, a), (second, b)]
        pairs.append((operators.mutate(first, decisions, one, 0.4), codec.mutate(a, other, 0.4)))
        pairs.append((operators.mutate_one(first, decisions, one), codec.mutate_one(a, other)))
        pairs.append((operators.crossover(first, second, one), codec.crossover(a, b, other)))
        for architecture, code in pairs:
            assert codec.decode(code) == architecture
            assert codec.encode(architecture) == code
        assert one.getstate() == other.getstate()


@spaces
def test_equal_integers_are_equal_architectures(decisions: Mapping[str, Decision]) -> None:
    codec, rng = IntegerCodec(decisions), random.Random(0)
    codes = {codec.sample(rng) for _ in range(500)}
    assert len({codec.decode(code) for code in codes}) == len(codes)


@spaces
def test_the_order_of_names_makes_no_difference(decisions: Mapping[str, Decision]) -> None:
    """The ledger sorts the names, so architectures of a resumed run have another order than new ones."""
    codec, rng = IntegerCodec(decisions), random.Random(0)
    first, second = operators.sample(decisions, rng), operators.sample(decisions, rng)

    def crossed(turn: Callable[[Architecture], Architecture]) -> Architecture:
        codes = [codec.encode(turn(architecture)) for architecture in (first, second)]
        return codec.decode(codec.crossover(codes[0], codes[1], random.Random(1)))

    assert crossed(lambda item: item) == crossed(lambda item: Architecture(dict(reversed([*item.items()]))))


def test_architectures_of_other_spaces_are_refused() -> None:
    codec = IntegerCodec(SPACES["choices"])
    whole = dict.fromkeys(SPACES["choices"], "skip")
    with pytest.raises(SpaceError, match="'conv7' is not an option"):
        codec.encode(Architecture(whole | {"d2": "conv7"}))
    with pytest.raises(SpaceError, match="lacks the decision 'd5'"):
        codec.encode(Architecture({name: value for name, value in whole.items() if name != "d5"}))
    with pytest.raises(SpaceError, match="is not an option"):
        codec.encode(Architecture(whole | {"d0": ("skip", "skip")}))


def test_a_space_of_one_architecture_cannot_mutate() -> None:
    with pytest.raises(SpaceError, match="nothing to mutate"):
        IntegerCodec({"a": Choice((1,))}).mutate_one(0, random.Random(0))
