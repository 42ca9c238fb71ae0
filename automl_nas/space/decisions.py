"""The kinds of decisions: `Choice`, `Subset` and `Ordinal`."""

from __future__ import annotations

import contextlib
import math
import operator
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.scalars import plain_scalar


def _index(options: tuple[Scalar, ...]) -> dict[tuple[type, Scalar], int]:
    # The type is part of the key: 1, 1.0 and True are equal in Python but not in JSON.
    return {(type(option), option): position for position, option in enumerate(options)}


def plain_options(options: Iterable[object], owner: str) -> tuple[Scalar, ...]:
    """Return options as plain Python scalars: NumPy scalars and members of an Enum become their plain values.

    Args:
        options: of a decision.
        owner: what has the options, for the message of the error.

    Raises:
        SpaceError: JSON cannot represent an option.
    """
    plain: list[Scalar] = []
    for position, option in enumerate(options):
        try:
            plain.append(plain_scalar(option))
        except TypeError as error:
            raise SpaceError(
                f"option {position} of {owner} cannot be recorded: {error}; name the option by a string or a finite "
                "number"
            ) from None
    return tuple(plain)


@dataclass(frozen=True)
class Decision(ABC):
    """One decision of a search space. Abstract: use `Choice`, `Subset` or `Ordinal`.

    Attributes:
        options: the alternatives, as JSON scalars. NumPy scalars and members of an Enum become their plain values.
    """

    options: tuple[Scalar, ...]
    _positions: dict[tuple[type, Scalar], int] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", plain_options(self.options, f"a {type(self).__name__}"))
        object.__setattr__(self, "_positions", _index(self.options))
        if not self.options:
            raise SpaceError(f"a {type(self).__name__} needs at least one option")
        if len(self._positions) != len(self.options):
            raise SpaceError(f"a {type(self).__name__} has the same option twice: {self.options!r}")

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of values."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The length of the code that `encode` returns."""

    @abstractmethod
    def validate(self, value: object) -> Value:
        """Return the value in its normal form.

        Raises:
            SpaceError: the value is not one of this decision; the message names the nearest option.
        """

    @abstractmethod
    def sample(self, rng: random.Random) -> Value:
        """Draw a value uniformly."""

    @abstractmethod
    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield every value one step away: another option, one option more or less, the next value up or down."""

    @abstractmethod
    def encode(self, value: Value) -> tuple[int, ...]:
        """Return integers of fixed length `width`: option index (Choice, Ordinal) or 0/1 per option (Subset)."""

    @abstractmethod
    def decode(self, code: Sequence[int]) -> Value:
        """Invert `encode`."""

    def position(self, option: object) -> int:
        """Return the index of an option.

        Raises:
            SpaceError: the decision has no such option.
        """
        try:
            return self._positions[(type(option), option)]  # type: ignore[index]
        except (KeyError, TypeError):
            with contextlib.suppress(KeyError, TypeError):  # a NumPy scalar, a member of an Enum
                plain = plain_scalar(option)
                return self._positions[(type(plain), plain)]
            hint = ""
            if isinstance(option, str):
                hint = did_you_mean(option, [item for item in self.options if isinstance(item, str)])
            options = ", ".join(repr(item) for item in self.options)
            raise SpaceError(
                f"{option!r} is not an option{hint if 'did you mean' in hint else ''} (options: {options})"
            ) from None


@dataclass(frozen=True)
class Choice(Decision):
    """One of k options.

    Args:
        options: at least one JSON scalar, no two the same.
    """

    @property
    def size(self) -> int:
        """The number of values."""
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
        # As rng.randrange draws, without its argument checks: searches call this more often than any other function.
        options = self.options
        count = len(options)
        bits = count.bit_length()
        place = rng.getrandbits(bits)
        while place >= count:
            place = rng.getrandbits(bits)
        return options[place]

    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield every other option."""
        current = self.position(value)
        return (option for position, option in enumerate(self.options) if position != current)

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
            raise SpaceError(f"the numbers of an Ordinal must be in increasing order, not {self.options!r}")

    def neighbours(self, value: Value) -> Iterator[Value]:
        """Yield the next value down and the next value up, as far as they exist."""
        current = self.position(value)
        return (self.options[position] for position in (current - 1, current + 1) if 0 <= position < len(self.options))


@dataclass(frozen=True)
class Subset(Decision):
    """Any of k options, such as the edges of a DAG; a value is a tuple in the order of ``options``.

    Args:
        options: at least one JSON scalar, no two the same.
        min: the smallest number of options that a value contains (default 0).
        max: the largest number (default all).
    """

    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            object.__setattr__(self, "min", operator.index(self.min))
            object.__setattr__(self, "max", None if self.max is None else operator.index(self.max))
        except TypeError:
            raise SpaceError(f"min and max of a Subset are whole numbers, not {self.min!r} and {self.max!r}") from None
        if not 0 <= self.min <= self.largest <= len(self.options):
            raise SpaceError(f"a Subset of {len(self.options)} options cannot have min={self.min} and max={self.max}")

    @property
    def largest(self) -> int:
        """The largest number of options that a value may contain."""
        return len(self.options) if self.max is None else self.max

    @property
    def size(self) -> int:
        """The number of subsets of an allowed size."""
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
            raise SpaceError(f"{value!r} has {len(positions)} options, allowed are {self.min} to {self.largest}")
        return tuple(self.options[position] for position in positions)

    def sample(self, rng: random.Random) -> Value:
        """Draw a subset uniformly among all subsets of an allowed size."""
        counts = range(self.min, self.largest + 1)
        weights = [math.comb(len(self.options), count) for count in counts]
        ticket = rng.randrange(sum(weights))
        for count, weight in zip(counts, weights, strict=True):  # noqa: B007 - used after the loop
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
