"""Settings as data: name, type, default and description, read from signatures, dataclasses and docstrings."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Literal, TypeAlias, Union

from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin.validation_errors import join

REQUIRED: Any = dataclasses.MISSING
"""The default of a setting that users must write."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting of a component, or one field of a settings dataclass.

    Attributes:
        name: what users write.
        type: the annotation.
        default: JSON-like; `REQUIRED` if the setting has no default.
        description: from the docstring's ``Args`` or ``Attributes``; empty if the setting is not described there.
    """

    name: str
    type: Any
    default: Any = REQUIRED
    description: str = ""

    @property
    def required(self) -> bool:
        """Whether users must write the setting."""
        return self.default is REQUIRED

    @property
    def annotation(self) -> str:
        """The type as a string, e.g. ``float | None``."""
        return describe(self.type)

    @property
    def fields(self) -> tuple[Setting, ...]:
        """The fields, if the type is a settings dataclass or a union with one; otherwise empty.

        A field's default is the value in the setting's own default, if the setting has one: users who write some of
        the fields get these values for the others.
        """
        options = typing.get_args(self.type) if is_union(self.type) else (self.type,)
        return tuple(
            field for option in options if dataclasses.is_dataclass(option) for field in self._with_own_defaults(option)
        )

    @property
    def default_fields(self) -> tuple[Setting, ...]:
        """The fields of the settings dataclass of which the default is an instance; empty if it is something else."""
        options = typing.get_args(self.type) if is_union(self.type) else (self.type,)
        return next(
            (
                self._with_own_defaults(option)
                for option in options
                if dataclasses.is_dataclass(option) and self._is_default(fields_of(option))
            ),
            (),
        )

    def _is_default(self, fields: tuple[Setting, ...]) -> bool:
        return isinstance(self.default, dict) and self.default.keys() == {field.name for field in fields}

    def _with_own_defaults(self, cls: Any) -> tuple[Setting, ...]:
        fields = fields_of(cls)
        if not self._is_default(fields):
            return fields
        return tuple(dataclasses.replace(field, default=self.default[field.name]) for field in fields)


Place: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead from the settings of a component to a value inside."""


@dataclasses.dataclass(frozen=True)
class Nested:
    """The resolved specification of a component in a setting of another: ``{"name": ..., setting: ...}``."""

    kind: str
    spec: Mapping[str, Any]


def from_config(spec: str | Mapping[str, Any], *, path: str = "") -> dict[str, Any]:
    """Return a component's specification as ``{"name": ..., setting: ...}``; a name alone means no settings.

    Args:
        spec: a name, or a mapping with ``name`` and settings.
        path: the place of the specification in the configuration.

    Raises:
        ConfigurationError: the specification is neither a string nor a mapping with a ``name``.
    """
    if isinstance(spec, str):
        return {"name": spec}
    if not isinstance(spec, Mapping):
        raise ConfigurationError(f"must be a name or a mapping with a 'name', not {spec!r}", path=path)
    if "name" not in spec:
        near = [key for key in spec if isinstance(key, str) and "did you mean" in did_you_mean(key, ["name"])]
        hint = f"; did you mean 'name' instead of '{near[0]}'?" if near else ""
        raise ConfigurationError(f"a component needs a name{hint}", path=join(path, "name"))
    if not isinstance(spec["name"], str):
        raise ConfigurationError(f"must be a string, not {spec['name']!r}", path=join(path, "name"))
    return dict(spec)


def describe(annotation: Any) -> str:
    """Return an annotation as a short string."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    if is_union(annotation):
        return " | ".join(describe(option) for option in typing.get_args(annotation))
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(repr(option) for option in args)}]"
    if origin is not None:
        inner = ", ".join("..." if item is ... else describe(item) for item in args)
        return f"{origin.__name__}[{inner}]"
    return str(annotation).removeprefix("typing.")


def fields_of(cls: Any) -> tuple[Setting, ...]:
    """Return the fields of a settings dataclass.

    Raises:
        PluginError: the dataclass is not frozen, or a field's annotation cannot be resolved.
    """
    if not cls.__dataclass_params__.frozen:
        raise PluginError(f"the dataclass {cls.__name__} must be frozen to be a setting")
    hints = resolve_hints(cls, cls.__name__)
    described = descriptions(cls.__doc__)
    settings = []
    for item in dataclasses.fields(cls):
        if item.init:
            factory: Any = item.default_factory
            default = item.default if factory is REQUIRED else factory()
            default = REQUIRED if default is REQUIRED else to_json(default)
            settings.append(Setting(item.name, hints[item.name], default, described.get(item.name, "")))
    return tuple(settings)


def resolve_hints(obj: Any, name: str) -> dict[str, Any]:
    """Return `typing.get_type_hints`.

    Raises:
        PluginError: an annotation contains a name that is not defined at run time.
    """
    try:
        return typing.get_type_hints(obj)
    except Exception as error:
        raise PluginError(
            f"the annotations of {name} cannot be resolved: {error}; import their types at run time, "
            "not under TYPE_CHECKING"
        ) from error


def descriptions(docstring: str | None) -> dict[str, str]:
    """Return name -> description from the ``Args:`` and ``Attributes:`` sections of a Google-style docstring."""
    described: dict[str, str] = {}
    section, indent, name = 0, 0, ""
    for line in (docstring or "").expandtabs().splitlines():
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if text in ("Args:", "Attributes:"):
            section, indent, name = depth + 1, 0, ""
        elif section and text and depth < section:
            section = 0
        elif section and text:
            indent = indent or depth
            head, colon, rest = text.partition(":")
            if depth == indent and colon and head.isidentifier():
                name = head
                described[name] = rest.strip()
            elif name:
                described[name] += " " + text
    return described


def to_json(value: Any) -> Any:
    """Return the JSON form of a setting.

    Dataclasses and nested components become dicts, tuples become lists, paths become strings.
    """
    if isinstance(value, Nested):
        return to_json(value.spec)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in dataclasses.fields(value) if item.init}
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def is_union(annotation: Any) -> bool:
    """Whether an annotation is ``A | B`` or ``Union[A, B]``."""
    return typing.get_origin(annotation) in (Union, types.UnionType)
