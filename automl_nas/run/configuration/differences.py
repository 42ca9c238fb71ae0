"""The settings in which two configurations differ, each by its path: a whole section would hide the setting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from automl_nas.plugin.validation_errors import join


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings in which two parts of configurations differ: path, value in one, value in the other.

    Mappings are compared setting by setting, and lists of equal length item by item. A component with another name is
    one difference, since its settings are others.

    Args:
        one: plain data.
        other: plain data.
        path: of both in their configurations.
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping) and one.get("name") == other.get("name"):
        for key in dict.fromkeys([*one, *other]):
            pair = one.get(key), other.get(key)
            if key in one and key in other:
                yield from differences(*pair, join(path, str(key)))
            else:
                yield join(path, str(key)), *pair
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for position, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{path}[{position}]")
    elif one != other:
        yield path, one, other


def first_difference(one: Any, other: Any, path: str = "") -> tuple[str, str, str] | None:
    """Return the first of `differences` for messages, with its values as JSON; None if the two are equal."""
    for where, before, now in differences(one, other, path):
        return where, json.dumps(before), json.dumps(now)
    return None
