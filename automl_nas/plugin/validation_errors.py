"""Validation errors in the words of whoever wrote the configuration: where, what was expected, the nearest name."""

from __future__ import annotations

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
    "string_type": "a text",
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


def located(error: ValidationError, given: Mapping[str, Any], path: str) -> ConfigurationError:
    """Return the first problem of a validation as an error with its place.

    Args:
        error: what pydantic found.
        given: the settings that were validated.
        path: where they stand in the configuration.

    Raises:
        PluginError: a component that the settings name is wrong itself.
    """
    found = [(_place(item["loc"], item["type"], given), item) for item in error.errors(include_url=False)]
    first = [item for item in found if item[0][:1] == found[0][0][:1]]
    # The options of a union each have their say: those that got furthest into the value are the ones that were meant.
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
    wanted, shown, hint = [], _show(value), ""
    for item in problems:
        if item["type"] in _EXPECTED:
            wanted.append(_EXPECTED[item["type"]])
        elif "wanted" in item.get("ctx", {}):
            wanted.append(item["ctx"]["wanted"])
            shown = item["ctx"].get("found", shown)
            options = [option for option in item["ctx"].get("options", ()) if isinstance(option, str)]
            near = did_you_mean(value, options) if isinstance(value, str) else ""
            hint = near if "did you mean" in near else hint
    if not wanted:
        return ConfigurationError(f"{problems[0]['msg']}, not {_show(value)}", path=where)
    return ConfigurationError(
        f"must be {' or '.join(dict.fromkeys(wanted))}, not {shown}{hint or _hint(value, wanted)}", path=where
    )


def _place(location: Sequence[str | int], kind: str, given: Any) -> tuple[str | int, ...]:
    # pydantic puts the names of union options between the keys; only what leads somewhere in the input is a place.
    place: list[str | int] = []
    here = given
    for position, part in enumerate(location):
        inside = (
            part in here if isinstance(here, Mapping) else isinstance(here, list | tuple) and part in range(len(here))
        )
        if inside:
            here = here[part]
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


def _hint(value: Any, wanted: Sequence[str]) -> str:
    if isinstance(value, str) and "a text" not in wanted:
        if "true or false" in wanted and value.lower() in ("yes", "no", "on", "off", "true", "false"):
            return "; write true or false, without quotes"
        try:
            float(value)
        except ValueError:
            return ""
        return "; remove the quotes" if any("number" in text for text in wanted) else ""
    return ""
