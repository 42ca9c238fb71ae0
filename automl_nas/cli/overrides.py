"""``--set key=value``: changing a configuration on the command line; errors name the place of each value."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from automl_nas.run.record.yaml import Document

_PART = re.compile(r"[^.\[\]]+|\[[^\[\]]+\]")
_KEY = re.compile(r"[^.\[\]=]+(\.[^.\[\]=]+|\[[^\[\]]+\])*")


@dataclass(frozen=True)
class Override:
    """One ``key=value``.

    Attributes:
        option: the option on the command line, for error messages: ``--set seed=3``.
        parts: the parts of the key.
        value: the value, parsed as YAML 1.2.
    """

    option: str
    parts: tuple[str, ...]
    value: Any

    @classmethod
    def parse(cls, text: str) -> Override:
        """Read ``key=value``.

        Raises:
            ConfigurationError: the text has no ``=``, the key is malformed, or the value is not YAML.
        """
        from automl_nas.run.record.yaml import parse_yaml

        key, equals, value = text.partition("=")
        option = f"--set {text}"
        if not equals or not _KEY.fullmatch(key := key.strip()):
            raise ConfigurationError("write key=value, such as stages.search.budget.trials=10", source=option)
        return cls(option, tuple(part.strip("[]") for part in _PART.findall(key)), parse_yaml(value, option).value)


class Configuration:
    """A configuration from a file with overrides, and the place where each of its values is written.

    Args:
        value: the content of the file.
        document: the file with the line of each value.
    """

    def __init__(self, value: dict[str, Any], document: Document) -> None:
        self.value, self._document = value, document
        self._overrides: list[tuple[str, Override]] = []

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Configuration:
        """Read a file and apply overrides.

        Raises:
            ConfigurationError: the file is not a configuration, or the key of an override does not exist.
        """
        from automl_nas.run.record.yaml import read_yaml

        document = read_yaml(path)
        if document.value is not None and not isinstance(document.value, dict):
            raise ConfigurationError(
                "a configuration must be a mapping of settings, such as 'space: shufflenet_v2'", source=str(path)
            )
        configuration = cls(dict(document.value or {}), document)
        for text in overrides:
            configuration.set(Override.parse(text))
        return configuration

    def set(self, override: Override) -> None:
        """Set one value; missing mappings on the way to it are created.

        Raises:
            ConfigurationError: the key contains a value without settings, or an item that the list does not have.
        """
        value = copy.deepcopy(self.value)
        if override.parts[0] == "stages" and value.get("stages") is None and len(override.parts) > 1:
            from automl_nas.run.configuration.sections import DEFAULT_STAGES

            value["stages"] = [copy.deepcopy(dict(stage)) for stage in DEFAULT_STAGES]
        parent: Any = value
        path = ""
        for depth, part in enumerate(override.parts):
            last = depth == len(override.parts) - 1
            key: Any
            if isinstance(parent, list):
                key = _item(parent, part, path, override.option)
                path += f"[{key}]"
            else:
                key = part
                path += f".{part}" if path else part
            if last:
                parent[key] = override.value
            else:
                child = parent[key] if isinstance(parent, list) else parent.get(key)
                parent[key] = _as_container(child, path, override)
                parent = parent[key]
        self.value = value
        self._overrides.append((path, override))

    def locate(self, error: ConfigurationError) -> ConfigurationError:
        """Return the error with the place where its setting is written, unless the error has a place already."""
        if error.source or not error.path:
            return error
        for path, override in reversed(self._overrides):
            if error.path == path or error.path.startswith((f"{path}.", f"{path}[")):
                return ConfigurationError(error.message, path=error.path, source=override.option)
        return ConfigurationError(error.message, path=error.path, source=self._document.where(error.path))


def _item(items: list[Any], part: str, path: str, option: str) -> int:
    """Return the position of the item with this name or position."""
    names = [item.get("name") if isinstance(item, Mapping) else item for item in items]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(items):
        return int(part)
    strings = [name for name in names if isinstance(name, str)]
    hint = did_you_mean(part, strings) if strings else ""
    raise ConfigurationError(f"'{path}' has no item '{part}' (it has {len(items)}){hint}", source=option)


def _as_container(value: Any, path: str, override: Override) -> Any:
    """Return a mapping or list in which a key can be set: a name becomes ``{name: ...}``, null an empty mapping."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict | list):
        return value
    raise ConfigurationError(f"'{path}' is {json.dumps(value)}, which has no settings", source=override.option)
