"""Making frozen dataclasses quickly."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def new_frozen(kind: type[T], fields: dict[str, object]) -> T:
    """Return what the constructor of a frozen dataclass would, given *all* fields; the dict belongs to it from now on.

    The constructor sets one field after the other, 3 microseconds for twelve of them: more than anything else that
    is done with a trial that a search takes from a table.
    """
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", fields)
    return made
