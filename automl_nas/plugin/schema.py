"""Annotations as schemas: from the types of settings to pydantic types that check them strictly."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Union

from automl_nas.absolute_path import absolute_path
from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin.kinds import KINDS, kind_of
from automl_nas.plugin.settings import Nested, Setting, describe, fields_of, from_config, is_union, to_json

if TYPE_CHECKING:
    from pydantic import ValidationInfo

__all__ = [
    "NO_COMPONENTS",
    "ComponentResolver",
    "Setting",
    "fields_of",
    "model",
    "refuse_unknown",
    "schema",
    "to_json",
    "values",
]


class ComponentResolver(Protocol):
    """Resolves and constructs components inside settings of others; `Registry` and the components of a run do so."""

    def resolve(self, kind: str, spec: Any, /, *, expected: type | None) -> dict[str, Any]:
        """Return ``{"name": ..., setting: ...}`` with every default filled in.

        Raises:
            ConfigurationError: the name is not registered, or the component is not of the expected type.
        """

    def construct(
        self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, /, *, path: str
    ) -> Any:
        """Construct a resolved component."""


class _NoComponents:
    """A resolver without components."""

    def resolve(self, kind: str, spec: Any, /, *, expected: type | None) -> dict[str, Any]:
        name = from_config(spec)["name"]
        raise ConfigurationError(
            f"the {KINDS[kind].noun} '{name}' cannot be resolved: this call has no registry of components", path="name"
        )

    def construct(
        self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, /, *, path: str
    ) -> Any:
        raise AssertionError("nothing was resolved")


NO_COMPONENTS: ComponentResolver = _NoComponents()
"""What `Signature` uses without a registry: every component in a setting is refused."""


def schema(annotation: Any, where: str) -> Any:
    """Return the pydantic type that checks values of an annotation strictly and converts them for constructors.

    Args:
        annotation: int, float, str, bool, None, Literal, list, tuple and dict (or Sequence and Mapping) of them,
            unions, frozen dataclasses, component base classes, Path (recorded absolute), Any or object for any JSON.
        where: the component and the setting, for error messages.

    Raises:
        PluginError: the type is not supported.
    """
    from pydantic import AfterValidator, BeforeValidator, JsonValue

    if annotation in (int, float, str, bool, type(None), None):
        return annotation
    if annotation is Any or annotation is object:
        return JsonValue
    if annotation is Path:
        # Recorded as an absolute path, since a run may be resumed from another folder.
        return Annotated[str, BeforeValidator(_path_to_str), AfterValidator(_absolute)]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return Annotated[Any, BeforeValidator(_one_of(args))]
    if is_union(annotation):
        return Union[tuple(schema(option, where) for option in args)]  # noqa: UP007 - built at run time
    if origin in (list, Sequence):
        return Annotated[list[schema(args[0], where)], BeforeValidator(_to_list)]  # type: ignore[misc]
    if origin is tuple:
        inner = tuple(item if item is ... else schema(item, where) for item in args)
        length = None if ... in args else len(args)
        return Annotated[tuple[inner], BeforeValidator(_to_tuple(length))]  # type: ignore[valid-type]
    if origin in (dict, Mapping) and args[0] is str:
        return dict[str, schema(args[1], where)]  # type: ignore[misc]
    if isinstance(annotation, type):
        if (kind := kind_of(annotation)) is not None:
            return Annotated[Any, BeforeValidator(_nested(kind, annotation))]
        if dataclasses.is_dataclass(annotation):
            return _dataclass(annotation, where)
    raise PluginError(
        f"{where} has the type {describe(annotation)}, which a configuration cannot hold; use int, float, str, bool, "
        "None, Literal, Path, lists, tuples and dicts of them with the types of their elements, frozen dataclasses, or "
        "a component base class"
    )


def model(settings: Sequence[Setting], name: str) -> Any:
    """Return a pydantic model with one field for each setting, called f0, f1, ... in their order.

    Defaults are added to the input instead of the fields, so that they are validated like values that users write.
    """
    from pydantic import ConfigDict, Field, create_model, model_validator

    # Aliases, because a setting may have the name of an attribute of pydantic's models (copy, schema, json).
    members = {
        f"f{number}": (schema(setting.type, f"the setting '{setting.name}' of {name}"), Field(alias=setting.name))
        for number, setting in enumerate(settings)
    }
    config = ConfigDict(strict=True, allow_inf_nan=False)

    def fill(value: Any) -> Any:
        return filled(value, settings) if isinstance(value, dict) else value

    validators = {"fill": model_validator(mode="before")(fill)}
    return create_model(name, __config__=config, __validators__=validators, **members)  # type: ignore[call-overload]


def refuse_unknown(names: Iterable[Any], settings: Sequence[Setting], owner: str = "") -> None:
    """Raise an error if one of the names is not the name of a setting.

    Args:
        names: what the user wrote.
        settings: those that exist.
        owner: the component or section that has the settings; empty if the path of the error is enough.

    Raises:
        ConfigurationError: with the nearest name; the error's path is the unknown name.
    """
    setting_names = [setting.name for setting in settings]
    for name in names:
        if name not in setting_names:
            hint = did_you_mean(str(name), setting_names) if setting_names else "; it has no settings"
            problem = f"{owner} has no setting" if owner else "unknown setting"
            raise ConfigurationError(f"{problem} '{name}'{hint}", path=str(name))


def filled(written: Mapping[str, Any], settings: Sequence[Setting]) -> dict[str, Any]:
    """Return the written settings and the defaults of all others.

    A mapping that is written for a nested settings dataclass is merged over the default of that setting, which a
    component's author may have chosen differently from the defaults of the dataclass's fields.
    """
    complete = {setting.name: setting.default for setting in settings if not setting.required} | dict(written)
    for setting in settings:
        value, fields = written.get(setting.name), setting.default_fields
        # Other keys are a mistake, which the caller reports, or mean another dataclass of a union.
        if isinstance(value, Mapping) and value.keys() <= {field.name for field in fields}:
            complete[setting.name] = filled(value, fields)
    return complete


def values(validated: Any, settings: Sequence[Setting]) -> dict[str, Any]:
    """Return the values of a validated `model` by the names of the settings."""
    return {setting.name: getattr(validated, f"f{number}") for number, setting in enumerate(settings)}


def _absolute(text: str) -> Path:
    try:
        return absolute_path(text)
    except (OSError, RuntimeError) as error:  # a user without a home folder, or a current folder that was removed
        raise ValueError(f"must be a path that exists or can exist ({error})") from None


def _path_to_str(value: Any) -> Any:
    return str(value) if isinstance(value, PurePath) else value


def _to_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _to_tuple(length: int | None) -> Callable[[Any], Any]:
    from pydantic_core import PydanticCustomError

    def convert(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if length is not None and len(value) != length:
            context = {"expected": f"a list of length {length}", "received": f"one of length {len(value)}"}
            raise PydanticCustomError("wrong_length", "{expected}", context)
        return tuple(value)

    return convert


def _one_of(options: tuple[Any, ...]) -> Callable[[Any], Any]:
    from pydantic_core import PydanticCustomError

    quoted = [repr(option) for option in options]
    expected = " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))

    def check(value: Any) -> Any:
        # In Python True == 1 == 1.0; in a configuration they differ.
        if not any(type(value) is type(option) and value == option for option in options):
            raise PydanticCustomError("not_an_option", "{expected}", {"expected": expected, "options": options})
        return value

    return check


def _nested(kind: str, expected: type) -> Callable[[Any, ValidationInfo], Nested]:
    def resolve(value: Any, info: ValidationInfo) -> Nested:
        if isinstance(value, Nested):
            return value
        return Nested(kind, info.context.resolve(kind, value, expected=expected))  # type: ignore[union-attr]

    return resolve


def _dataclass(cls: Any, where: str) -> Any:
    from pydantic import AfterValidator, BeforeValidator

    settings = fields_of(cls)

    def unwrap(value: Any) -> Any:
        if isinstance(value, cls):
            return {setting.name: getattr(value, setting.name) for setting in settings}
        if isinstance(value, dict):
            refuse_unknown(value, settings)
        return value

    inner = model(settings, cls.__name__)
    return Annotated[inner, AfterValidator(lambda checked: cls(**values(checked, settings))), BeforeValidator(unwrap)]
