"""Fast construction of frozen dataclasses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def new_frozen(kind: type[T], fields: dict[str, object]) -> T:
    """Return an instance of a frozen dataclass, as its constructor would, from *all* its fields.

    The constructor of a frozen dataclass sets one field after the other, which takes 3 microseconds for twelve fields.
    For the four records of a trial that is 5 of 31 microseconds in ``benchmarks/tabular_throughput.py`` (evolution,
    batch 100), and 4 of 37 in ``benchmarks/driver_overhead.py`` (batch 100).

    Args:
        kind: a frozen dataclass without slots. Its ``__post_init__`` is not called.
        fields: field name -> value; the dict must not be used afterwards.
    """
    instance = object.__new__(kind)
    object.__setattr__(instance, "__dict__", fields)
    return instance


class LazyPath:
    """A field of a frozen dataclass whose string is converted to a Path when it is read.

    For `Request.scratch`, which most evaluators never read, that saves 6 of 60 microseconds a trial in
    ``benchmarks/driver_overhead.py`` (batch 1), and 2 of 29 (batch 100).

    The instance holds the string under the name of the field with ``_`` before it; `new_frozen` needs that name.
    """

    def __set_name__(self, kind: type, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, instance: Any, kind: type) -> Path | None:
        if instance is None:
            return None  # the default of the field
        path = vars(instance)[self._name]
        return None if path is None else Path(path)

    def __set__(self, instance: Any, path: str | Path | None) -> None:
        vars(instance)[self._name] = path
