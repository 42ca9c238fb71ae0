"""YAML 1.2 scalars, read without executing anything, with the line of every value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from automl_nas.errors import ConfigurationError

Path_: TypeAlias = tuple[str | int, ...]

_CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2: ``no`` is a string, ``1e-3`` a number, ``010`` is ten."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(node.value)
    return int(text, 16) if text.lower().startswith("0x") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that look like YAML 1.2 scalars, so that `_Loader` reads them back as strings."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Never write anchors: people read the configuration."""
        return True


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = {float("inf"): ".inf", float("-inf"): "-.inf"}.get(value, ".nan" if value != value else repr(value))
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # In a plain scalar PyYAML writes these line breaks unchanged and reads them back as spaces.
    style = '"' if any(character in "\x85\u2028\u2029" for character in value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(list(value)))


@dataclass(frozen=True)
class Document:
    """A YAML document.

    Attributes:
        value: its content.
        source: the name of the file.
        lines: path of a value -> line, counted from 1.
    """

    value: Any
    source: str
    lines: dict[Path_, int] = field(default_factory=dict)

    def where(self, path: str) -> str:
        """Return ``file:line`` of a path such as ``stages[0].strategy``, or of its nearest parent that has a line."""
        keys: list[str | int] = []
        for part in re.findall(r"[^.\[\]]+|\[\d+\]", path):
            keys.append(int(part[1:-1]) if part.startswith("[") else part)
        while keys and tuple(keys) not in self.lines:
            keys.pop()
        line = self.lines.get(tuple(keys))
        return f"{self.source}:{line}" if line else self.source


def parse_yaml(text: str, source: str) -> Document:
    """Read a document.

    Raises:
        ConfigurationError: it is not YAML, a key is repeated, or a tag would execute code.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Path_, int] = {}
        if node is not None:
            _locate(node, (), lines, source)
        value = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(
            f"not valid YAML: {error.problem or error.context}", source=f"{source}{line}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"not valid YAML: {error}", source=source) from None
    finally:
        loader.dispose()
    return Document(value, source, lines)


def read_yaml(path: Path) -> Document:
    """Read a file; see `parse_yaml`.

    Raises:
        ConfigurationError: the file cannot be read, or is not valid.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not encoded in UTF-8") from None
    return parse_yaml(text, str(path))


def dump_yaml(value: Any) -> str:
    """Return a document that `parse_yaml` reads back as the same value, with tuples as lists."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _locate(node: yaml.Node, path: Path_, lines: dict[Path_, int], source: str) -> None:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise ConfigurationError(f"the key '{name}' is repeated", source=f"{source}:{key.start_mark.line + 1}")
            seen.add(name)
            _locate(value, (*path, name), lines, source)
            lines[(*path, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            _locate(value, (*path, position), lines, source)
