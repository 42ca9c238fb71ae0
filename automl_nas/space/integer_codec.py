"""Architectures of one space as whole numbers, for searches that draw far more candidates than they keep."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from operator import getitem
from typing import final

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Choice, Decision, Ordinal
from automl_nas.space.operators import Decisions

_BYTE = 8
_WORD = 32


@final
class IntegerCodec:
    """Turns architectures into whole numbers and back, and draws and changes them as numbers.

    A number has one field for each decision, the first in its lowest bits. A field is one byte and holds the index of
    the option, where every decision is a `Choice` or `Ordinal` of at most 256 options that differ in Python too. In
    other spaces it has 32 bits; the values of a `Subset`, and of decisions of one's own, are numbered in the order in
    which they are first met. So numbers are equal where architectures are, but those of one packing mean nothing to
    another one.

    `sample`, `mutate`, `mutate_one` and `crossover` take the same draws from a generator, and give the same results, as
    the functions of those names in `automl_nas.space.operators`, in a fraction of the time: most of what a search draws
    late is known already, and only what is new has to become an `Architecture`.

    Args:
        decisions: of the space. What `unpack` gives is known to come from them (`ArchitectureValidator`).
    """

    def __init__(self, decisions: Decisions) -> None:
        self._decisions = decisions
        self._names = tuple(decisions)
        plain = [type(decision) in (Choice, Ordinal) for decision in decisions.values()]
        # 1 and True, which a dict cannot tell apart, take the long way.
        distinct = all(len(set(decision.options)) == len(decision.options) for decision in decisions.values())
        small = all(plain) and distinct and all(decision.size <= 1 << _BYTE for decision in decisions.values())
        self._width = width = _BYTE if small else _WORD
        self._size = len(self._names) * width // 8
        self._values: list[list[Value]] = []
        self._fields: list[_Field] = []
        draws: list[_Draw] = []
        for position, (decision, drawn) in enumerate(zip(decisions.values(), plain, strict=True)):
            if drawn:
                field = _Field(decision, list(decision.options))
                # What `Choice.sample` does: so many bits until they are less than the number of options.
                draws.append((position * width, decision.size.bit_length(), decision.size, None))
            else:
                field = _Field(decision, [])
                draws.append((position * width, 0, 0, field.sample))
            self._fields.append(field)
            self._values.append(field.values)
        self._draws = tuple(draws)
        self._numbers = tuple(
            (name, {value: number for number, value in enumerate(values)})
            for name, values in zip(self._names, self._values, strict=True)
        )
        self._free = tuple(draw for draw, decision in zip(draws, decisions.values(), strict=True) if decision.size > 1)
        self._low = int.from_bytes(bytes([1]) * len(self._names), "little")
        self._field = (1 << width) - 1
        self._masks = tuple(self._field << shift for shift, *_ in draws)

    def pack(self, architecture: Architecture) -> int:
        """Return the number of an architecture of the space.

        Raises:
            SpaceError: it lacks a decision, or has a value that the decision cannot take.
        """
        values = architecture._values
        try:
            if self._width == _BYTE:
                return int.from_bytes(bytes([numbers[values[name]] for name, numbers in self._numbers]), "little")
        except (KeyError, TypeError):
            pass  # said better below
        code = 0
        for (shift, *_), name, field in zip(self._draws, self._names, self._fields, strict=True):
            if name not in values:
                raise SpaceError(f"the architecture lacks the decision '{name}'")
            code |= field.number(values[name]) << shift
        return code

    def unpack(self, code: int) -> Architecture:
        """Return the architecture of a number."""
        places = code.to_bytes(self._size, "little")
        numbers = places if self._width == _BYTE else memoryview(places).cast("I")
        return Architecture._of_decisions(
            dict(zip(self._names, map(getitem, self._values, numbers), strict=True)), self._decisions
        )

    def sample(self, rng: random.Random) -> int:
        """Draw every decision uniformly and independently."""
        bits_of = rng.getrandbits
        if self._width == _BYTE:
            places = []
            for _, bits, count, _ in self._draws:
                place = bits_of(bits)
                while place >= count:
                    place = bits_of(bits)
                places.append(place)
            return int.from_bytes(bytes(places), "little")
        code = 0
        for shift, bits, count, sample in self._draws:
            if sample is not None:
                code |= sample(rng) << shift
                continue
            place = bits_of(bits)
            while place >= count:
                place = bits_of(bits)
            code |= place << shift
        return code

    def mutate(self, parent: int, rng: random.Random, probability: float) -> int:
        """Redraw each decision with the given probability, uniformly over all its values; see `operators.mutate`."""
        draw = rng.random
        for shift, bits, count, sample in self._draws:
            if draw() < probability:
                place = _place(rng, bits, count, sample)
                parent ^= (((parent >> shift) & self._field) ^ place) << shift
        return parent

    def mutants(
        self, parents: Sequence[int], rng: random.Random, probability: float
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield without end a mutant of a parent drawn uniformly, and the parent's place (SPOS, section 3.4)."""
        # `mutate` again, for a call would take longer than the draws do.
        draw, count = rng.random, len(parents)  # faster than randrange, and uniform to 2**-53
        if self._width != _BYTE:
            while True:
                place = int(draw() * count)
                yield self.mutate(parents[place], rng, probability), (place,)
        fields, bits_of = self._draws, rng.getrandbits
        while True:
            place = int(draw() * count)
            child = parents[place]
            for field in fields:
                if draw() < probability:
                    shift, bits, options, _ = field
                    option = bits_of(bits)
                    while option >= options:
                        option = bits_of(bits)
                    child ^= (((child >> shift) & 255) ^ option) << shift
            yield child, (place,)

    def crossings(self, parents: Sequence[int], rng: random.Random) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield without end a child of two parents drawn uniformly, and the parents' places (SPOS, section 3.4)."""
        draw, count, cross = rng.random, len(parents), self.crossover
        while True:
            first, second = int(draw() * count), int(draw() * count)
            yield cross(parents[first], parents[second], rng), (first, second)

    def mutate_one(self, parent: int, rng: random.Random) -> int:
        """Change exactly one decision, drawn uniformly, to a different value; see `operators.mutate_one`.

        Raises:
            SpaceError: no decision has a second value.
        """
        free = self._free
        if not free:
            raise SpaceError("the space holds a single architecture: there is nothing to mutate")
        shift, bits, count, sample = free[rng.randrange(len(free))]
        here = (parent >> shift) & self._field
        place = _place(rng, bits, count, sample)
        while place == here:
            place = _place(rng, bits, count, sample)
        return parent ^ ((here ^ place) << shift)

    def crossover(self, first: int, second: int, rng: random.Random) -> int:
        """Take each decision from either parent with equal probability; see `operators.crossover`."""
        if self._width == _BYTE:
            # The lowest bit of each random byte, spread over the byte, says whose field it is.
            return first ^ ((first ^ second) & ((rng.getrandbits(_BYTE * len(self._names)) & self._low) * 255))
        bits = rng.randbytes(len(self._names))
        return first ^ ((first ^ second) & sum(compress(self._masks, [byte & 1 for byte in bits])))


# Where its field begins; how many bits are drawn, and how many values there are; or else what draws the number.
_Draw = tuple[int, int, int, Callable[[random.Random], int] | None]


def _place(rng: random.Random, bits: int, count: int, sample: Callable[[random.Random], int] | None) -> int:
    if sample is not None:
        return sample(rng)
    place = rng.getrandbits(bits)
    while place >= count:
        place = rng.getrandbits(bits)
    return place


@final
class _Field:
    """The numbers of one decision's values.

    Args:
        decision: the decision.
        values: those that have numbers from the beginning, in their order; others get the next one when they come.
    """

    def __init__(self, decision: Decision, values: list[Value]) -> None:
        self._decision, self.values = decision, values
        self._numbers = {decision.encode(value): number for number, value in enumerate(values)}

    def number(self, value: Value) -> int:
        """Return the number of a value."""
        code = self._decision.encode(value)
        number = self._numbers.get(code)
        if number is None:
            number = self._numbers[code] = len(self.values)
            self.values.append(self._decision.validate(value))
        return number

    def sample(self, rng: random.Random) -> int:
        """Draw a value, and return its number."""
        return self.number(self._decision.sample(rng))
