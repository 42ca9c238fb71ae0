"""An architecture is data: a frozen mapping from decision names to values."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from functools import lru_cache
from operator import is_
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
"""One option of a decision: a JSON scalar."""

Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""What an architecture holds for one decision: an option, or a tuple of options (`Subset`)."""


# One encoder for all keys: json.dumps with options would make one for each call.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

# Pieces of keys, by name, type and value: decisions have few options, and every recorded candidate needs its key. Only
# types whose equal values have equal texts (0.0 equals -0.0); at most so many, for an author may make up options as he
# goes.
_PIECES: dict[tuple[str, type, Value], str] = {}
_PLAIN = frozenset((str, int, bool, type(None)))
_PIECES_KEPT = 1 << 16


def _text(values: Mapping[str, Value]) -> str:
    names = _in_order(tuple(values))
    found = [values[name] for name in names]
    types = list(map(type, found))
    if not _PLAIN.issuperset(types):
        return _encode(values)
    try:
        return "{" + ",".join(map(_PIECES.__getitem__, zip(names, types, found, strict=True))) + "}"
    except KeyError:
        if len(_PIECES) > _PIECES_KEPT:
            _PIECES.clear()
        for name, kind, value in zip(names, types, found, strict=True):
            _PIECES[name, kind, value] = f"{_encode(name)}:{_encode(value)}"
        return _encode(values)


@lru_cache(maxsize=256)
def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(names))


def _freeze(value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(_scalar(item) for item in value)
    return _scalar(value)


def _scalar(value: object) -> Scalar:
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

    __slots__ = ("_hash", "_key", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values: dict[str, Value] = {name: _freeze(value) for name, value in values.items()}
        self._key: str | None = None
        self._hash: int | None = None

    @classmethod
    def _of(cls, values: dict[str, Value]) -> Architecture:
        # For operators only: values that decisions gave are frozen already, and the dict now belongs to the result.
        new = object.__new__(cls)
        new._values, new._key, new._hash = values, None, None
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
        if not isinstance(other, Architecture):
            return NotImplemented
        mine, others = self._values, other._values
        if mine is others:
            return True
        if mine != others:
            return False
        # 1, 1.0 and True are equal in Python but not in JSON, so the keys decide, unless the very same objects (most
        # often the options of a decision) stand under the same names.
        return all(map(is_, mine.values(), map(others.__getitem__, mine))) or self.key == other.key

    def __hash__(self) -> int:
        if self._hash is None:
            # Not of the key: a search asks for the hash of every candidate, for the text only of those it keeps.
            self._hash = hash(frozenset(self._values.items()))
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return Architecture, (dict(self._values),)

    def __repr__(self) -> str:
        return f"Architecture({dict(self._values)!r})"
