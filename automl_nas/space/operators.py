"""Sampling, changing and encoding architectures: the building blocks of search strategies.

All functions take the decisions of a space; random ones also take a generator, which comes from a named stream.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, compress
from typing import TypeAlias

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision, Subset

Decisions: TypeAlias = Mapping[str, Decision]
_LOWEST_BIT = bytes(byte & 1 for byte in range(256))


def sample(decisions: Decisions, rng: random.Random) -> Architecture:
    """Draw every decision uniformly and independently."""
    return Architecture._of_decisions({name: decision.sample(rng) for name, decision in decisions.items()}, decisions)


def mutate(parent: Architecture, decisions: Decisions, rng: random.Random, probability: float = 0.1) -> Architecture:
    """Redraw each decision with the given probability, uniformly over all its values (SPOS, section 3.4).

    The redrawn value may be the old one, as in the paper's code, so the result may equal the parent.
    """
    draw = rng.random
    values = parent._values.copy()
    for name, decision in decisions.items():
        if draw() < probability:
            values[name] = decision.sample(rng)
    return Architecture._of_decisions(values, _shared(parent, decisions))


def mutate_one(parent: Architecture, decisions: Decisions, rng: random.Random) -> Architecture:
    """Change exactly one decision, drawn uniformly, to a different value (regularized evolution, Real et al. 2019).

    Raises:
        SpaceError: no decision has a second value.
    """
    free = [name for name, decision in decisions.items() if decision.size > 1]
    if not free:
        raise SpaceError("no decision has a second value, so there is nothing to mutate")
    name = free[rng.randrange(len(free))]
    decision = decisions[name]
    # Codes are compared: 1 and True are different options, though equal in Python.
    code = decision.encode(parent[name])
    while decision.encode(value := decision.sample(rng)) == code:
        pass
    return Architecture._of_decisions(dict(parent.items()) | {name: value}, _shared(parent, decisions))


def crossover(first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
    """Take each decision from either parent with equal probability (SPOS, section 3.4)."""
    values = first._values.copy()
    # One fair bit for each decision: the lowest bit of a random byte.
    values.update(compress(second._values.items(), rng.randbytes(len(values)).translate(_LOWEST_BIT)))
    return Architecture._of_decisions(values, _shared(first, second._decisions))


def neighbours(architecture: Architecture, decisions: Decisions) -> Iterator[Architecture]:
    """Yield every architecture that differs in one decision by one step (`Decision.neighbours`)."""
    for name, decision in decisions.items():
        for value in decision.neighbours(architecture[name]):
            yield Architecture._of_decisions(
                dict(architecture.items()) | {name: value}, _shared(architecture, decisions)
            )


def sample_neighbours(
    architecture: Architecture, decisions: Decisions, rng: random.Random, most: int
) -> list[Architecture]:
    """Return all `neighbours` in their order or, if there are more than ``most``, a random sample of that size.

    It takes the same draws as ``rng.sample(list(neighbours(...)), most)``, without constructing the other neighbours.
    """
    steps = [(name, value) for name, decision in decisions.items() for value in decision.neighbours(architecture[name])]
    values, shared = architecture._values, _shared(architecture, decisions)
    return [
        Architecture._of_decisions({**values, name: value}, shared)
        for name, value in (steps if len(steps) <= most else rng.sample(steps, most))
    ]


def _shared(architecture: Architecture, decisions: object) -> object:
    """Return the decisions if they returned all values of the architecture, else None."""
    return decisions if architecture._decisions is decisions else None


def encode(architecture: Architecture, decisions: Decisions) -> tuple[int, ...]:
    """Return one flat tuple of integers, decision after decision (`Decision.encode`)."""
    return tuple(code for name, decision in decisions.items() for code in decision.encode(architecture[name]))


def decode(code: Sequence[int], decisions: Decisions) -> Architecture:
    """Invert `encode`.

    Raises:
        SpaceError: the code has the wrong length.
    """
    expected = sum(decision.width for decision in decisions.values())
    if len(code) != expected:
        raise SpaceError(f"a code of this space has {expected} numbers, but this one has {len(code)}")
    values: dict[str, object] = {}
    start = 0
    for name, decision in decisions.items():
        values[name] = decision.decode(code[start : start + decision.width])
        start += decision.width
    return Architecture(values)


def enumerate_all(decisions: Decisions) -> Iterator[Architecture]:
    """Yield every raw assignment of a space whose decisions are `Choice`, `Ordinal`, or small subsets.

    The order is that of counting: the last decision changes fastest.
    """
    names = list(decisions)

    def walk(position: int, values: dict[str, object]) -> Iterator[Architecture]:
        if position == len(names):
            yield Architecture(values)
            return
        for value in all_values(decisions[names[position]]):
            yield from walk(position + 1, {**values, names[position]: value})

    return walk(0, {})


def all_values(decision: Decision) -> Iterator[object]:
    """Yield every value of one decision: the options, or the allowed subsets by increasing binary code."""
    if not isinstance(decision, Subset):
        yield from decision.options
        return
    counts = range(decision.min, decision.largest + 1)
    chosen = (places for count in counts for places in combinations(range(decision.width), count))
    # Only allowed subsets are built: at most two of many options, say, are few of the 2**width codes.
    for code in sorted(sum(1 << place for place in places) for places in chosen):
        yield decision.decode([(code >> place) & 1 for place in range(decision.width)])
