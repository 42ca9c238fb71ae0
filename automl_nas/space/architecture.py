"""An architecture is data: a frozen mapping from decision names to values."""

from __future__ import annotations

import json
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeAlias

import orjson

from automl_nas.space.scalars import Scalar as Scalar, plain_scalar

Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""What an architecture holds for one decision: an option, or a tuple of options (`Subset`)."""


# For values that orjson refuses: integers of more than 64 bits, unpaired surrogates.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


# Every value of these types is a JSON scalar.
_JSON_TYPES = frozenset((str, int, bool, type(None)))


def _json(values: Mapping[str, Value]) -> str:
    try:
        return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        return _encode(values)


def _freeze(name: str, value: object) -> Value:
    try:
        if isinstance(value, (list, tuple)):
            return tuple(map(plain_scalar, value))
        return plain_scalar(value)
    except TypeError as error:
        raise TypeError(f"decision '{name}': an architecture holds JSON scalars or tuples of them; {error}") from None


class Architecture(Mapping[str, Value]):
    """The value of each decision: immutable, hashable, JSON; never a module.

    Two architectures are equal if they hold the same values under the same names, in any order. An architecture is also
    the simplest *selection* that a supernet can be called with: every decision has an unweighted value.

    Args:
        values: decision name -> option (`Choice`, `Ordinal`) or sequence of options (`Subset`). NumPy scalars and
            members of an Enum become their plain values.

    Raises:
        TypeError: a value is not a JSON scalar or a sequence of them.
    """

    __slots__ = ("_decisions", "_key", "_values")

    def __init__(self, values: Mapping[str, object]) -> None:
        if _JSON_TYPES.issuperset(map(type, values.values())):  # the usual case: no value needs a check of its own
            self._values: dict[str, Value] = {**values}  # type: ignore[dict-item]
        else:
            self._values = {name: _freeze(name, value) for name, value in values.items()}
        self._key: str | None = None
        self._decisions: object = None

    @classmethod
    def _of_decisions(cls, values: dict[str, Value], decisions: object) -> Architecture:
        """Return an architecture of values that decisions returned, without checks; for operators only.

        Its values need no check, and `SearchSpace.validate` returns it at once. That saves 7 of 40 microseconds a trial
        in ``benchmarks/driver_overhead.py`` (20 decisions, batch 100), 4 of 31 in ``benchmarks/tabular_throughput.py``.

        Args:
            values: decision name -> value; the dict must not be used afterwards.
            decisions: the mapping of the decisions that returned *all* values; None if they did not.
        """
        architecture = object.__new__(cls)
        architecture._values, architecture._key, architecture._decisions = values, None, decisions
        return architecture

    @property
    def key(self) -> str:
        """The architecture as JSON with sorted names and no spaces; equal architectures have equal keys."""
        if self._key is None:
            self._key = _json(self._values)
        return self._key

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Return the architecture of a JSON object, such as `key`."""
        return cls(json.loads(text))

    def to_dict(self) -> dict[str, object]:
        """Return a plain dict that ``json.dumps`` accepts (tuples as lists)."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self._values.items()}

    def replace(self, changes: Mapping[str, object]) -> Architecture:
        """Return a copy with some decisions changed (decision name -> new value)."""
        return Architecture({**self._values, **changes})

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
        # Keys are compared, since 1, 1.0 and True are equal in Python but not in JSON.
        return (self._key or self.key) == (other._key or other.key)

    def __hash__(self) -> int:
        return hash(self._key or self.key)

    def __reduce__(self) -> tuple[object, ...]:
        return Architecture, (dict(self._values),)

    def __repr__(self) -> str:
        return f"Architecture({dict(self._values)!r})"
