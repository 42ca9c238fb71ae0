"""What can be decided: `Choice`, `Subset` and `Ordinal`."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Scalar, Value


def _index(options: tuple[Scalar, ...]) -> dict[tuple[type, Scalar], int]:
    # 1, 1.0 and True are equal in Python but not in JSON: the type belongs to the key.
    return {(type(option), option): position for position, option in enumerate(options)}


@dataclass(frozen=True)
class Decision(ABC):
    """One thing to decide. Abstract: use `Choice`, `Subset` or `Ordinal`.

    Attributes:
        options: the JSON scalars it is about.
    """

    options: tuple[Scalar, ...]
    _positions: dict[tuple[type, Scalar], int] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "_positions", _index(self.options))
        if not self.options:
            raise SpaceError(f"a {type(self).__name__} needs at least one option")
        if len(self._positions) != len(self.options):
            raise SpaceError(f"a {type(self).__name__} has the same option twice: {self.options!r}")

    @property
    @abstractmethod
    def size(self) -> int:
        """How many values there are."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many numbers `encode` returns."""

    @abstractmethod
    def validate(self, value: object) -> Value:
        """Return the value in its normal form.

        Raises:
            SpaceError: it is not a value of this decision; the nearest option is offered.
        """

    @abstractmethod
    def sample(self, rng: random.Random) -> Value:
        """Draw a value uniformly."""

    @abstractmethod
    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield every value one step away: another option, one option more or less, the next up or down."""

    @abstractmethod
    def encode(self, value: Value) -> tuple[int, ...]:
        """Return integers of fixed length `width`: option index (Choice, Ordinal) or 0/1 per option (Subset)."""

    @abstractmethod
    def decode(self, code: Sequence[int]) -> Value:
        """Invert `encode`."""

    def position(self, option: object) -> int:
        """Return the index of an option.

        Raises:
            SpaceError: no such option.
        """
        try:
            return self._positions[(type(option), option)]  # type: ignore[index]
        except (KeyError, TypeError):
            known = ", ".join(repr(item) for item in self.options)
            hint = (
                did_you_mean(option, [o for o in self.options if isinstance(o, str)]) if isinstance(option, str) else ""
            )
            raise SpaceError(
                f"{option!r} is not an option{hint if 'did you mean' in hint else ''} (options: {known})"
            ) from None


@dataclass(frozen=True)
class Choice(Decision):
    """One of k options.

    Args:
        options: at least one JSON scalar, no two the same.
    """

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.options)

    @property
    def width(self) -> int:
        """One number: the option's index."""
        return 1

    def validate(self, value: object) -> Value:
        """Return the option itself; see `Decision.validate`."""
        return self.options[self.position(value)]

    def sample(self, rng: random.Random) -> Value:
        """Draw an option uniformly."""
        # What rng.randrange does, without its five checks: searches draw more often than they do anything else.
        options = self.options
        count = len(options)
        bits = count.bit_length()
        place = rng.getrandbits(bits)
        while place >= count:
            place = rng.getrandbits(bits)
        return options[place]

    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield every other option."""
        here = self.position(value)
        return (option for position, option in enumerate(self.options) if position != here)

    def encode(self, value: Value) -> tuple[int, ...]:
        """Return the option's index."""
        return (self.position(value),)

    def decode(self, code: Sequence[int]) -> Value:
        """Return the option at an index."""
        return self.options[code[0]]


@dataclass(frozen=True)
class Ordinal(Choice):
    """One of k ordered values, such as a width, a depth or a number of bits.

    Args:
        options: the values in order; numbers must be increasing.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = [option for option in self.options if isinstance(option, int | float)]
        if len(numbers) == len(self.options) and sorted(numbers) != numbers:
            raise SpaceError(f"the values of an Ordinal stand in increasing order, not {self.options!r}")

    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield the next value down and the next value up, where there are any."""
        here = self.position(value)
        return (self.options[position] for position in (here - 1, here + 1) if 0 <= position < len(self.options))


@dataclass(frozen=True)
class Subset(Decision):
    """Any of k options, such as the live edges of a DAG; a value is a tuple in the order of ``options``.

    Args:
        options: at least one JSON scalar, no two the same.
        min: the smallest number of options taken (default 0).
        max: the largest (default all).
    """

    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min <= self.largest <= len(self.options):
            raise SpaceError(f"a Subset of {len(self.options)} options cannot take {self.min}..{self.max} of them")

    @property
    def largest(self) -> int:
        """The largest number of options that may be taken."""
        return len(self.options) if self.max is None else self.max

    @property
    def size(self) -> int:
        """How many subsets of an allowed size there are."""
        return sum(math.comb(len(self.options), count) for count in range(self.min, self.largest + 1))

    @property
    def width(self) -> int:
        """One number, 0 or 1, for each option."""
        return len(self.options)

    def validate(self, value: object) -> Value:
        """Return the options in the order of ``options``, each once; see `Decision.validate`."""
        if not isinstance(value, tuple | list):
            raise SpaceError(f"{value!r} is not a tuple of options (options: {self.options!r})")
        positions = sorted({self.position(option) for option in value})
        if len(positions) != len(value):
            raise SpaceError(f"{value!r} names an option twice")
        if not self.min <= len(positions) <= self.largest:
            raise SpaceError(f"{value!r} takes {len(positions)} options, allowed are {self.min} to {self.largest}")
        return tuple(self.options[position] for position in positions)

    def sample(self, rng: random.Random) -> Value:
        """Draw a subset uniformly among all subsets of an allowed size."""
        counts = range(self.min, self.largest + 1)
        weights = [math.comb(len(self.options), count) for count in counts]
        ticket = rng.randrange(sum(weights))
        for count, weight in zip(counts, weights, strict=True):  # noqa: B007 - used behind the loop
            if ticket < weight:
                break
            ticket -= weight
        chosen = set(rng.sample(range(len(self.options)), count))
        return tuple(option for position, option in enumerate(self.options) if position in chosen)

    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield every allowed subset with one option more or one less."""
        chosen = self.encode(value)
        for position, taken in enumerate(chosen):
            count = sum(chosen) + (-1 if taken else 1)
            if self.min <= count <= self.largest:
                yield self.decode([1 - bit if place == position else bit for place, bit in enumerate(chosen)])

    def encode(self, value: Value) -> tuple[int, ...]:
        """Return 1 for each option taken, 0 for the others."""
        assert isinstance(value, tuple)
        taken = {self.position(option) for option in value}
        return tuple(int(position in taken) for position in range(len(self.options)))

    def decode(self, code: Sequence[int]) -> Value:
        """Return the options whose number is not 0."""
        return tuple(option for option, bit in zip(self.options, code, strict=True) if bit)
