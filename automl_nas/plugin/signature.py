"""A constructor's signature is the schema of a component's configuration.

Parameters before ``*`` are collaborators, which the run supplies by type. Parameters after it are settings, which users
write, except for ``seed``: the run supplies it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.plugin.kinds import COLLABORATORS, derives, kind_of
from automl_nas.plugin.schema import NO_COMPONENTS, ComponentResolver, filled, model, refuse_unknown, values
from automl_nas.plugin.settings import REQUIRED, Nested, Place, Setting, descriptions, is_union, resolve_hints, to_json
from automl_nas.plugin.validation_errors import join, located
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class Collaborator:
    """A parameter before ``*``.

    Attributes:
        name: of the parameter.
        type: the class that the argument must be an instance of.
        optional: whether the constructor accepts None.
    """

    name: str
    type: type
    optional: bool


@dataclass(frozen=True)
class Signature:
    """The arguments of a component's constructor: `collaborators`, `settings`, and whether it takes a ``seed``.

    Attributes:
        name: the component's name, for error messages.
        collaborators: in the order of the parameters.
        settings: in the order of the parameters, without ``seed``.
        takes_seed: whether the constructor has a parameter ``seed``.
    """

    name: str
    collaborators: tuple[Collaborator, ...]
    settings: tuple[Setting, ...]
    takes_seed: bool

    @classmethod
    def of(cls, obj: Callable[..., Any], *, name: str = "") -> Signature:
        """Read the signature of a class's constructor or of a function.

        Raises:
            PluginError: the signature has ``*args`` or ``**kwargs``, an annotation that is missing or cannot be
                resolved, a collaborator that a run cannot supply, or a setting called ``name``.
        """
        name = name or getattr(obj, "__name__", str(obj))
        function = obj.__init__ if isinstance(obj, type) else obj  # type: ignore[misc]
        parameters = list(inspect.signature(obj).parameters.values())
        hints = resolve_hints(function, name) if parameters else {}
        described = descriptions(obj.__doc__) | descriptions(function.__doc__)
        collaborators: list[Collaborator] = []
        settings: list[Setting] = []
        takes_seed = False
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise PluginError(f"{name} takes {parameter}, which hides its settings; name them one by one after '*'")
            if parameter.name not in hints:
                raise PluginError(f"the parameter '{parameter.name}' of {name} has no annotation")
            hint = hints[parameter.name]
            if parameter.kind is not parameter.KEYWORD_ONLY:
                collaborators.append(_collaborator(parameter, hint, name))
            elif parameter.name == "seed":
                if hint is not int:
                    raise PluginError(f"the parameter 'seed' of {name} must be annotated int: the run supplies it")
                takes_seed = True
            elif parameter.name == "name":
                raise PluginError(f"{name} has a setting 'name', which is the key that names the component; rename it")
            else:
                default = REQUIRED if parameter.default is parameter.empty else to_json(parameter.default)
                settings.append(Setting(parameter.name, hint, default, described.get(parameter.name, "")))
        return cls(name, tuple(collaborators), tuple(settings), takes_seed)

    def validate(
        self, settings: Mapping[str, Any], path: str = "", *, registry: ComponentResolver | None = None
    ) -> dict[str, Any]:
        """Return the settings with every default filled in, JSON-like.

        Args:
            settings: what the user wrote; a value may be an instance of a settings dataclass.
            path: the place of the settings in the configuration, e.g. ``stages[0].strategy``.
            registry: resolves components inside the settings; None: no component can be named there.

        Raises:
            ConfigurationError: a setting is unknown, missing or invalid; the error has its path and the nearest name.
            PluginError: the annotations or defaults of the component are wrong.
        """
        return {
            name: to_json(value) for name, value in self._checked(settings, path, registry or NO_COMPONENTS).items()
        }

    def nested(
        self, settings: Mapping[str, Any], path: str = "", *, registry: ComponentResolver | None = None
    ) -> list[tuple[Place, Nested]]:
        """Return the components inside settings with their places, not those inside these components.

        Args:
            settings: as for `validate`.
            path: the place of the settings in the configuration.
            registry: resolves the components.

        Raises:
            ConfigurationError: as in `validate`.
            PluginError: as in `validate`.
        """

        def walk(value: Any, place: Place) -> Iterator[tuple[Place, Nested]]:
            if isinstance(value, Nested):
                yield place, value
            elif isinstance(value, list | tuple | dict):
                for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                    yield from walk(item, (*place, key))

        return list(walk(self._checked(settings, path, registry or NO_COMPONENTS), ()))

    def construct(
        self,
        obj: Callable[..., Any],
        settings: Mapping[str, Any],
        collaborators: Sequence[object] = (),
        seed: int = 0,
        *,
        path: str = "",
        registry: ComponentResolver | None = None,
    ) -> Any:
        """Call a class or function with validated settings and with the collaborators of the annotated types.

        Components inside the settings are constructed first, with the same collaborators and a seed of their own.

        Args:
            obj: the class or function that the signature was read from.
            settings: as for `validate`.
            collaborators: all that are available; for each parameter the first instance of its type is taken.
            seed: the value of ``seed``, if the constructor has that parameter.
            path: the place of the settings in the configuration.
            registry: constructs components inside the settings; None: no component can be named there.

        Raises:
            ConfigurationError: as in `validate`; also if a collaborator is missing or of another type, or the
                constructor rejects a value.
            PluginError: as in `validate`.
        """
        resolver = registry or NO_COMPONENTS
        checked = self._checked(settings, path, resolver)
        arguments = [self._find(parameter, collaborators, path) for parameter in self.collaborators]

        def build(value: Any, place: Place) -> Any:
            if isinstance(value, Nested):
                own, inner_path = component_seed(seed, place), join(path, *place)
                return resolver.construct(value.kind, value.spec, collaborators, own, path=inner_path)
            if isinstance(value, list | tuple):
                return type(value)(build(item, (*place, number)) for number, item in enumerate(value))
            if isinstance(value, dict):
                return {key: build(item, (*place, key)) for key, item in value.items()}
            return value

        keywords = {name: build(value, (name,)) for name, value in checked.items()}
        if self.takes_seed:
            keywords["seed"] = seed
        try:
            return obj(*arguments, **keywords)
        except ConfigurationError as error:
            head = error.path.partition(".")[0].partition("[")[0]
            if error.source or (head and head not in keywords):
                raise
            raise ConfigurationError(error.message, path=join(path, error.path)) from error

    def verify(self, *, registry: ComponentResolver | None = None) -> None:
        """Check the types of the settings and their defaults, which `of` does not check.

        Raises:
            PluginError: a configuration cannot hold a value of the type, or a default is not of its type.
        """
        _ = self._model
        optional = tuple(setting for setting in self.settings if not setting.required)
        replace(self, settings=optional)._checked({}, "", registry or NO_COMPONENTS)

    @cached_property
    def _model(self) -> Any:
        return model(self.settings, self.name)

    def _checked(self, settings: Mapping[str, Any], path: str, registry: ComponentResolver) -> dict[str, Any]:
        from pydantic import ValidationError

        if not isinstance(settings, Mapping):
            raise ConfigurationError(f"the settings of '{self.name}' must be a mapping", path=path)
        if "seed" in settings and self.takes_seed:
            raise ConfigurationError(
                "the run supplies the seed: set the seed at the top level", path=join(path, "seed")
            )
        plain_settings = _plain(settings)
        try:
            refuse_unknown(plain_settings, self.settings, f"'{self.name}'")
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join(path, error.path)) from None
        try:
            return values(self._model.model_validate(plain_settings, context=registry), self.settings)
        except ValidationError as error:
            mistake = located(error, filled(plain_settings, self.settings), path)
            culprit = error.errors(include_url=False)[0]
            if culprit["type"] != "missing" and culprit["loc"][0] not in plain_settings:
                raise PluginError(
                    f"the default of the setting '{culprit['loc'][0]}' of {self.name} is invalid: {mistake.message}"
                ) from error
            raise mistake from None

    def _find(self, parameter: Collaborator, collaborators: Sequence[object], path: str) -> object:
        for collaborator in collaborators:
            if isinstance(collaborator, parameter.type):
                return collaborator
        if parameter.optional:
            return None
        needed = parameter.type.__name__
        base = _role(parameter.type)
        for collaborator in collaborators:
            if base is not None and derives(type(collaborator), base):
                raise ConfigurationError(
                    f"'{self.name}' needs a {needed}; {type(collaborator).__name__} is not one"
                    f"{_missing_methods(type(collaborator), parameter.type)}",
                    path=path,
                )
        raise ConfigurationError(f"'{self.name}' needs a {needed}, which this run does not supply", path=path)


def _collaborator(parameter: inspect.Parameter, hint: Any, name: str) -> Collaborator:
    options = typing.get_args(hint) if is_union(hint) else (hint,)
    classes = [option for option in options if option is not type(None)]
    if len(classes) != 1 or not isinstance(classes[0], type) or _role(classes[0]) is None:
        names = ", ".join(base.rpartition(":")[2] for base in COLLABORATORS)
        hint_settings = "; put settings after '*'" if not isinstance(hint, type) or kind_of(hint) is None else ""
        raise PluginError(
            f"the parameter '{parameter.name}' of {name} is before '*', so its type must be a collaborator "
            f"({names}){hint_settings}"
        )
    optional = parameter.default is not parameter.empty
    if len(options) > 1 and (not optional or parameter.default is not None):
        raise PluginError(f"the optional collaborator '{parameter.name}' of {name} must have the default None")
    return Collaborator(parameter.name, classes[0], optional)


def component_seed(seed: int, place: Place) -> int:
    """Return the seed of a component inside the settings of another.

    Args:
        seed: of the other one.
        place: of the component in the settings.
    """
    return stream_seed(seed, f"component/{join(*place)}")


def _role(cls: type) -> str | None:
    """Return the collaborator that a class is or derives from, as ``package.module:Class``; None for other classes.

    A class of `automl_nas.run`, the layer above, is a collaborator of executors.
    """
    own = [f"{cls.__module__}:{cls.__qualname__}"] if cls.__module__.startswith("automl_nas.run.") else []
    return next((base for base in (*COLLABORATORS, *own) if derives(cls, base)), None)


def _missing_methods(cls: type, expected: type) -> str:
    missing = sorted(name for name in getattr(expected, "__abstractmethods__", ()) if not hasattr(cls, name))
    return f" (it has no {', no '.join(missing)})" if missing else ""


def _plain(value: Any) -> Any:
    """Return mappings as dicts, recursively: pydantic's strict mode rejects other mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value
