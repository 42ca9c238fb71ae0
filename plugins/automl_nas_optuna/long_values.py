"""Attributes of any length: MySQL stores at most 64 KiB in one attribute of a study or trial."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

LIMIT: Final = 30_000
"""The number of characters of JSON from which a value is split. A string of this length has at most 60,000 characters
when it is written as JSON again."""

PARTS: Final = "automl_nas:parts"


def split(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes that hold a value: one, or the parts of its JSON string and then their number.

    Args:
        name: the name of the attribute.
        value: JSON data.
    """
    text = json.dumps(value)
    if len(text) <= LIMIT:
        yield name, value
        return
    parts = [text[begin : begin + LIMIT] for begin in range(0, len(text), LIMIT)]
    for position, part in enumerate(parts):
        yield f"{name}:{position}", part
    yield name, {PARTS: len(parts)}


def joined(attributes: Mapping[str, Any], name: str) -> Any:
    """Return the value of an attribute that `split` may have split; None if there is no such attribute."""
    value = attributes.get(name)
    if not isinstance(value, Mapping) or PARTS not in value:
        return value
    return json.loads("".join(attributes[f"{name}:{position}"] for position in range(value[PARTS])))
