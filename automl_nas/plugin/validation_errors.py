"""Pydantic's validation errors as configuration errors: the place, what was expected, the nearest name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, PluginError, did_you_mean

if TYPE_CHECKING:
    from pydantic import ValidationError

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "none_required": "null",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def join(*parts: str | int) -> str:
    """Join parts of a configuration path: ``join("stages", 0, "strategy")`` is ``stages[0].strategy``."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part:
            text += f".{part}" if text and not part.startswith("[") else part
    return text


def located(error: ValidationError, settings: Mapping[str, Any], path: str) -> ConfigurationError:
    """Return the first problem of a validation as an error with its place.

    Args:
        error: pydantic's error.
        settings: the settings that were validated.
        path: the place of the settings in the configuration.

    Raises:
        PluginError: a component that the settings name is itself invalid.
    """
    reports = [(_place(item["loc"], item["type"], settings), item) for item in error.errors(include_url=False)]
    first = [report for report in reports if report[0][:1] == reports[0][0][:1]]
    # Each option of a union reports a problem. The option whose problem is deepest in the value is the one meant.
    depth = max(len(place) for place, _ in first)
    deepest = next(place for place, _ in first if len(place) == depth)
    problems = [item for place, item in first if place == deepest]
    where = join(path, *deepest)
    for item in problems:
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError):
            return ConfigurationError(cause.message, path=join(where, cause.path))
        if isinstance(cause, PluginError):
            raise cause
    if problems[0]["type"] == "missing":
        return ConfigurationError("this setting is required", path=where)
    value = problems[0]["input"]
    expected, received, hint = [], _show(value), ""
    for item in problems:
        if item["type"] in _EXPECTED:
            expected.append(_EXPECTED[item["type"]])
        elif "expected" in (context := item.get("ctx", {})):
            expected.append(context["expected"])
            received = context.get("received", received)
            options = [option for option in context.get("options", ()) if isinstance(option, str)]
            near = did_you_mean(value, options) if isinstance(value, str) else ""
            hint = near if "did you mean" in near else hint
    if not expected:
        return ConfigurationError(f"{problems[0]['msg']}, not {_show(value)}", path=where)
    return ConfigurationError(
        f"must be {' or '.join(dict.fromkeys(expected))}, not {received}{hint or _hint(value, expected)}", path=where
    )


def _place(location: Sequence[str | int], kind: str, settings: Any) -> tuple[str | int, ...]:
    # pydantic puts the names of union options between the keys: only keys and indices of the input are kept.
    place: list[str | int] = []
    value = settings
    for position, part in enumerate(location):
        keys = value if isinstance(value, Mapping) else range(len(value) if isinstance(value, list | tuple) else 0)
        if part in keys:
            value = value[part]
        elif not (kind == "missing" and position == len(location) - 1):
            continue
        place.append(part)
    return tuple(place)


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(value: Any, expected: Sequence[str]) -> str:
    if isinstance(value, str) and "a string" not in expected:
        if "true or false" in expected and value.lower() in ("yes", "no", "on", "off", "true", "false"):
            return "; write true or false, without quotes"
        try:
            number = float(value)
        except ValueError:
            return ""
        # YAML reads nan and inf without quotes as text, too.
        numeric = math.isfinite(number) and any("number" in each for each in expected)
        return "; remove the quotes" if numeric else ""
    return ""
