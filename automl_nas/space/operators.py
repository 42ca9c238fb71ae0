"""Drawing, changing and encoding architectures: what search strategies are made of.

All functions take the decisions of a space, and a generator of a named stream where something is random.
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
    return Architecture._of({name: decision.sample(rng) for name, decision in decisions.items()}, decisions)


def mutate(parent: Architecture, decisions: Decisions, rng: random.Random, probability: float = 0.1) -> Architecture:
    """Redraw each decision with the given probability, uniformly over all its values (SPOS, section 3.4).

    The redrawn value may be the old one, as in the paper's code, so the result may equal the parent.
    """
    draw = rng.random
    values = parent._values.copy()
    for name, decision in decisions.items():
        if draw() < probability:
            values[name] = decision.sample(rng)
    return Architecture._of(values, _same(parent, decisions))


def mutate_one(parent: Architecture, decisions: Decisions, rng: random.Random) -> Architecture:
    """Change exactly one decision, drawn uniformly, to a different value (regularised evolution, Real et al. 2019).

    Raises:
        SpaceError: no decision has a second value.
    """
    free = [name for name, decision in decisions.items() if decision.size > 1]
    if not free:
        raise SpaceError("the space holds a single architecture: there is nothing to mutate")
    name = free[rng.randrange(len(free))]
    decision = decisions[name]
    # By their codes: 1 and True are different options, though equal in Python.
    here = decision.encode(parent[name])
    while decision.encode(value := decision.sample(rng)) == here:
        pass
    return Architecture._of(dict(parent.items()) | {name: value}, _same(parent, decisions))


def crossover(first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
    """Take each decision from either parent with equal probability (SPOS, section 3.4)."""
    values = first._values.copy()
    # One fair bit for each decision: the lowest of a random byte.
    values.update(compress(second._values.items(), rng.randbytes(len(values)).translate(_LOWEST_BIT)))
    return Architecture._of(values, _same(first, second._origin))


def neighbours(architecture: Architecture, decisions: Decisions) -> Iterator[Architecture]:
    """Yield every architecture that differs in one decision by one step (`Decision.neighbours`)."""
    for name, decision in decisions.items():
        for value in decision.neighbours(architecture[name]):
            yield Architecture._of(dict(architecture.items()) | {name: value}, _same(architecture, decisions))


def _same(architecture: Architecture, decisions: object) -> object:
    """Return the decisions if all that the architecture holds came from them, else None."""
    return decisions if architecture._origin is decisions else None


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
        raise SpaceError(f"a code of this space has {expected} numbers, not {len(code)}")
    values: dict[str, object] = {}
    start = 0
    for name, decision in decisions.items():
        values[name] = decision.decode(code[start : start + decision.width])
        start += decision.width
    return Architecture(values)


def enumerate_all(decisions: Decisions) -> Iterator[Architecture]:
    """Yield every raw assignment of a space whose decisions are all `Choice` or `Ordinal`, or small subsets.

    The order is that of counting, the last decision fastest.
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
    # Only allowed subsets are made: of many options at most two, say, is a small set inside 2**width codes.
    for code in sorted(sum(1 << place for place in places) for places in chosen):
        yield decision.decode([(code >> place) & 1 for place in range(decision.width)])
