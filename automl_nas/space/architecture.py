"""An architecture is data: a frozen mapping from decision names to values."""

from __future__ import annotations

import json
import math
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeAlias

import orjson

Scalar: TypeAlias = str | int | float | bool | None
"""One option of a decision: a JSON scalar."""

Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""What an architecture holds for one decision: an option, or a tuple of options (`Subset`)."""


# For what orjson does not take: whole numbers of more than 64 bits, halves of surrogate pairs.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


# Values of these types are JSON scalars, whatever they are.
_SURE = frozenset((str, int, bool, type(None)))


def _text(values: Mapping[str, Value]) -> str:
    try:
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return _encode(values)


def _freeze(value: object) -> Value:
    if isinstance(value, (list, tuple)):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: object) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"an architecture holds JSON scalars, and {value!r} is none")
    if isinstance(value, (str, int, float)) or value is None:
        return value
    raise TypeError(f"an architecture holds JSON scalars or tuples of them, not {type(value).__name__}: {value!r}")


class Architecture(Mapping[str, Value]):
    """Which option each decision takes: immutable, hashable, JSON; never a module.

    Two architectures are equal when they hold the same values under the same names, in any order. It is also the
    simplest *selection* a supernet can be called with: every decision unweighted.

    Args:
        values: decision name -> option (`Choice`, `Ordinal`) or sequence of options (`Subset`).

    Raises:
        TypeError: a value is not a JSON scalar or a sequence of them.
    """

    __slots__ = ("_judged", "_key", "_origin", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        if _SURE.issuperset(map(type, values.values())):  # as options mostly are: nothing to look at one by one
            self._values: dict[str, Value] = {**values}  # type: ignore[dict-item]
        else:
            self._values = {name: _freeze(value) for name, value in values.items()}
        self._key: str | None = None
        self._origin: object = None
        self._judged: object = None  # what the last problem said of it; see `Problem`

    @classmethod
    def _of(cls, values: dict[str, Value], origin: object) -> Architecture:
        # For operators only: values that decisions gave are frozen already, and the dict now belongs to the result.
        # The origin is the mapping of decisions that gave all of them; None if that is not sure.
        new = object.__new__(cls)
        new._values, new._key, new._origin, new._judged = values, None, origin, None
        return new

    @property
    def key(self) -> str:
        """The canonical JSON text: sorted names, no spaces; equal architectures have equal keys."""
        if self._key is None:
            self._key = _text(self._values)
        return self._key

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Read what `key` or any JSON object of decisions holds."""
        return cls(json.loads(text))

    def to_dict(self) -> dict[str, object]:
        """Return a plain dict that ``json.dumps`` accepts (tuples as lists)."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._values.items()}

    def replace(self, **values: object) -> Architecture:
        """Return a copy with some decisions changed."""
        return Architecture({**self._values, **values})

    def replaced(self, values: Mapping[str, object]) -> Architecture:
        """Return a copy with some decisions changed, for names that are no Python identifiers."""
        return Architecture({**self._values, **values})

    def __getitem__(self, name: str) -> Value:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def keys(self) -> KeysView[str]:
        """Return the decision names."""
        return self._values.keys()

    def values(self) -> ValuesView[Value]:
        """Return the values in the order of the names."""
        return self._values.values()

    def items(self) -> ItemsView[str, Value]:
        """Return the pairs of name and value."""
        return self._values.items()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Architecture):
            return NotImplemented
        # By the keys, for 1, 1.0 and True are equal in Python but not in JSON.
        return (self._key or self.key) == (other._key or other.key)

    def __hash__(self) -> int:
        return hash(self._key or self.key)

    def __reduce__(self) -> tuple[object, ...]:
        return Architecture, (dict(self._values),)

    def __repr__(self) -> str:
        return f"Architecture({dict(self._values)!r})"
