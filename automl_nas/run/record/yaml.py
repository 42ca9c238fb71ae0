"""YAML 1.2 scalars, read without executing anything, with the line of every value, and with bounds on what is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import yaml

from automl_nas.errors import ConfigurationError

Path_: TypeAlias = tuple[str | int, ...]

LARGEST_FILE = 1 << 20
"""Largest number of bytes of a document; PyYAML reads about 300 KB in a second."""

DEEPEST = 50
"""Largest number of mappings and lists inside each other."""

MOST_VALUES = 50_000
"""Largest number of values of a document, with every alias counted as the values that it repeats."""

MOST_DIGITS = 100
"""Largest number of digits of a whole number."""

_STRING, _NULL, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_BOOL, _INT, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_LIST, _MAPPING = "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"

_CORE_SCHEMA = (
    (_NULL, r"~|null|Null|NULL|", "~nN\0"),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        _FLOAT,
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_FORMS = {tag: re.compile(rf"(?:{pattern})\Z") for tag, pattern, _ in _CORE_SCHEMA}
_NAMES = {_NULL: "null", _BOOL: "true or false", _INT: "a whole number", _FLOAT: "a number"}


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with the core schema of YAML 1.2: ``no`` is a string, ``1e-3`` a number, ``010`` is ten.

    Its constructors are not used: `_Reader` makes the values.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form
    _depth = _composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; see `yaml.composer.Composer`, which calls itself for each level."""
        if self._depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"more than {DEEPEST} mappings and lists inside each other",
                problem_mark=None if parent is None else parent.start_mark,
            )
        self._composed += 1
        if self._composed > 2 * MOST_VALUES:  # keys are nodes, too
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_VALUES:,} values; write data to files, and name their paths",
                problem_mark=None if parent is None else parent.start_mark,
            )
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), [c if c != "\0" else "" for c in _first])
_Loader.add_implicit_resolver(_MERGE, re.compile(r"^<<$"), ["<"])


class _Dumper(yaml.SafeDumper):
    """Quotes strings that look like YAML 1.2 scalars, so that `_Loader` reads them back as strings."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, data: Any) -> bool:
        """Never write anchors: people read the configuration."""
        return True


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    text = {float("inf"): ".inf", float("-inf"): "-.inf"}.get(value, ".nan" if value != value else repr(value))
    return dumper.represent_scalar(_FLOAT, text)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # In a plain scalar PyYAML writes these line breaks unchanged and reads them back as spaces.
    style = '"' if any(character in "\x85\u2028\u2029" for character in value) else None
    return dumper.represent_scalar(_STRING, value, style=style)


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
    """Read a document. Aliases and merge keys (``<<: *base``) are expanded: no two parts of the value share an object.

    Raises:
        ConfigurationError: it is not YAML, a key is repeated or is not a string, a tag is not one of the core schema,
            an alias contains itself, or the document exceeds `LARGEST_FILE`, `DEEPEST`, `MOST_VALUES` or `MOST_DIGITS`.
    """
    if len(text) > LARGEST_FILE:
        raise ConfigurationError(_TOO_LARGE, source=source)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(
            f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed; remove it",
            source=f"{source}:{line}",
        ) from None
    except yaml.MarkedYAMLError as error:
        at = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"not valid YAML: {error.problem or error.context}", source=f"{source}{at}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as an escape of a character that does not exist
        raise ConfigurationError(f"not valid YAML: {error}", source=source) from None
    reader = _Reader(source)
    value = None if node is None else reader.read(node, ())
    return Document(value, source, reader.lines)


_TOO_LARGE = (
    f"larger than {LARGEST_FILE >> 20} MiB, which no configuration is; write data to files, and name their paths"
)


def read_yaml(path: Path) -> Document:
    """Read a file; see `parse_yaml`.

    Raises:
        ConfigurationError: the file cannot be read, or is not valid.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Read a file in UTF-8, at most `LARGEST_FILE` bytes.

    Raises:
        ConfigurationError: the file cannot be read, is too large, or is in another encoding.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with the character NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"cannot read {path}: {reason}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigurationError(_TOO_LARGE, source=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        other = "; it looks like UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ConfigurationError(f"{path}, line {line}, is not encoded in UTF-8{other}; save it as UTF-8") from None


def dump_yaml(value: Any) -> str:
    """Return a document that `parse_yaml` reads back as the same value, with tuples as lists."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Reader:
    """Makes plain values of the nodes of a document.

    Args:
        source: the name of the file, for messages.

    Attributes:
        lines: path of a value -> line, counted from 1.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._values = 0
        self._open: set[int] = set()  # identities of the nodes around the present one
        self.lines: dict[Path_, int] = {}

    def read(self, node: yaml.Node, path: Path_) -> Any:
        """Return the value of a node and note the lines of its parts."""
        line = node.start_mark.line + 1
        self.lines[path] = line
        self._count(node)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag != (_MAPPING if isinstance(node, yaml.MappingNode) else _LIST):
            self._refuse_tag(node)
        if id(node) in self._open:
            self._refuse(node, "an alias is inside the value that it repeats, so the value would never end")
        if len(path) > 2 * DEEPEST:  # aliases of aliases can be deeper than what is written
            self._refuse(node, f"more than {2 * DEEPEST} mappings and lists inside each other, aliases expanded")
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path)
        else:
            value = [self.read(item, (*path, position)) for position, item in enumerate(node.value)]
        self._open.remove(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in self._own(node):
            name = self._key(key)
            if name in value:
                self._refuse(key, f"the key '{name}' is repeated")
            value[name] = self.read(item, (*path, name))
            self.lines[(*path, name)] = key.start_mark.line + 1
        for key, item in self._merged(node):
            name = self._key(key)
            if name not in value:
                value[name] = self.read(item, (*path, name))
        return value

    def _own(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        return (entry for entry in node.value if not _is_merge(entry[0]))

    def _merged(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """Yield the entries of the mappings that merge keys name; earlier ones precede, as in the merge of YAML 1.1."""
        for key, bases in node.value:
            for base in (bases.value if isinstance(bases, yaml.SequenceNode) else [bases]) if _is_merge(key) else ():
                self._count(base)
                if not isinstance(base, yaml.MappingNode):
                    self._refuse(key, "a merge key (<<) takes an alias of a mapping, or a list of them")
                if id(base) in self._open:
                    self._refuse(key, "a merge key (<<) names a mapping that contains it")
                self._open.add(id(base))
                yield from self._own(base)
                yield from self._merged(base)
                self._open.remove(id(base))

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._refuse(node, "a key must be a string, not a list or a mapping")
        if node.tag != _STRING:
            self._refuse(node, f"a key must be a string, not {_shown(node)}; write it in quotes: '{_shown(node)}'")
        return str(self._scalar(node))

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, tag = str(node.value), node.tag
        if tag in (_STRING, _MERGE):
            if any("\ud800" <= character <= "\udfff" for character in text):
                self._refuse(
                    node, "half of a character (a surrogate), which no file can hold; write the whole character"
                )
            return text
        if tag not in _FORMS:
            self._refuse_tag(node)
        if not _FORMS[tag].match(text):
            self._refuse(node, f"{_shown(node)} is not {_NAMES[tag]}")
        if tag == _NULL:
            return None
        if tag == _BOOL:
            return text.lower() == "true"
        if tag == _FLOAT:
            return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", text, flags=re.IGNORECASE))
        if len(text) > MOST_DIGITS:
            self._refuse(node, f"a whole number of more than {MOST_DIGITS} digits")
        return int(text, 16) if text.lower().startswith("0x") else int(text)

    def _count(self, node: yaml.Node) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            self._refuse(node, f"more than {MOST_VALUES:,} values, aliases expanded; repeat fewer aliases")

    def _refuse_tag(self, node: yaml.Node) -> NoReturn:
        tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
        self._refuse(
            node, f"the tag {_shortened(tag)} is not allowed: a configuration holds plain values only; remove the tag"
        )

    def _refuse(self, node: yaml.Node, message: str) -> NoReturn:
        raise ConfigurationError(message, source=f"{self._source}:{node.start_mark.line + 1}")


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.tag == _MERGE


def _shown(node: yaml.ScalarNode) -> str:
    return _shortened(str(node.value) or "an empty value")


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
