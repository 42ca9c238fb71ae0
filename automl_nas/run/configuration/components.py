"""Components of a run: those named in a configuration, and those given as Python objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.plugin.kinds import KINDS, derives, produced_class
from automl_nas.plugin.registry import Registry
from automl_nas.plugin.schema import Setting, to_json
from automl_nas.plugin.settings import from_config
from automl_nas.plugin.signature import Signature
from automl_nas.plugin.validation_errors import join

PYTHON = "python:"
"""How a configuration writes down a component that was given as a Python object: ``python:module:Class``."""


class Components:
    """Resolves and constructs components by name, or by the Python objects a caller gave.

    Args:
        registry: of what plugins registered.
        objects: ``python:module:Class`` -> the class, function or finished component it stands for.
    """

    def __init__(self, registry: Registry, objects: Mapping[str, object]) -> None:
        self.registry, self.objects = registry, dict(objects)

    def resolve(self, kind: str, spec: Any, path: str) -> dict[str, Any]:
        """Return ``{"name": ..., setting: ...}`` with every default filled in; see `Registry.resolve`."""
        settings = from_config(spec, path=path)
        if not settings["name"].startswith(PYTHON):
            return self.registry.resolve(kind, settings, path=path)
        name = settings.pop("name")
        made = self._object(name, kind, path)
        if _finished(made, kind):
            if settings:
                raise ConfigurationError(
                    f"'{name}' is a finished object and takes no settings", path=join(path, next(iter(settings)))
                )
            return {"name": name}
        return {"name": name, **Signature.of(made, name=name).validate(settings, path, registry=self.registry)}  # type: ignore[arg-type]

    def construct(
        self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, path: str
    ) -> Any:
        """Construct a resolved component; a finished object is returned as it is."""
        name = spec["name"]
        if not name.startswith(PYTHON):
            return self.registry.construct(kind, spec, collaborators, seed, path=path)
        made = self._object(name, kind, path)
        if _finished(made, kind):
            return made
        settings = {key: value for key, value in spec.items() if key != "name"}
        signature = Signature.of(made, name=name)  # type: ignore[arg-type]
        return signature.construct(made, settings, collaborators, seed, path=path, registry=self.registry)  # type: ignore[arg-type]

    def factory(self, kind: str, name: str, path: str) -> Any:
        """Return the class or function behind a name, or the finished object."""
        if name.startswith(PYTHON):
            return self._object(name, kind, path)
        return self.registry.get(kind, name, path=join(path, "name")).load()

    def class_of(self, kind: str, name: str, path: str) -> Any:
        """Return what can be asked about a component before it is made: its class, or the finished object.

        Raises:
            PluginError: a function makes it, which does not say what.
        """
        made = self.factory(kind, name, path)
        if _finished(made, kind):
            return made
        if (found := produced_class(made)) is None:
            raise PluginError(
                f"{path}: '{name}' has to say what it makes: annotate it with the {KINDS[kind].base_name} it returns"
            )
        return found

    def settings(self, kind: str, name: str, path: str) -> tuple[Setting, ...]:
        """Return the settings a component has; none for a finished object."""
        made = self.factory(kind, name, path)
        return () if _finished(made, kind) else Signature.of(made, name=name).settings

    def check_collaborators(self, kind: str, name: str, available: Sequence[type], path: str) -> None:
        """Check that a run can supply what a constructor asks for.

        Raises:
            ConfigurationError: it asks for something this run lacks.
        """
        made = self.factory(kind, name, path)
        if _finished(made, kind):
            return
        for wanted in Signature.of(made, name=name).collaborators:
            if not wanted.optional and not any(issubclass(have, wanted.type) for have in available):
                raise ConfigurationError(
                    f"'{name}' needs a {wanted.type.__name__}, and this run has none that fits", path=path
                )

    def check(
        self,
        kind: str,
        spec: Mapping[str, Any],
        checker: Callable[..., object],
        collaborators: Sequence[object],
        seed: int,
        path: str,
    ) -> None:
        """Call a function that checks some of the arguments which a class will be constructed with.

        It is not called for a finished object, for what a function makes, or if a collaborator it needs is not there.

        Args:
            kind: of the component.
            spec: resolved.
            checker: has some of the constructor's parameters.
            collaborators: what there is so far.
            seed: as for `construct`.
            path: where the component stands in the configuration.

        Raises:
            PluginError: the checker asks for a setting that the component does not have.
            UserError: from the checker.
        """
        name = spec["name"]
        if not isinstance(self.factory(kind, name, path), type):
            return
        signature = Signature.of(checker, name=name)
        if not all(
            wanted.optional or any(isinstance(have, wanted.type) for have in collaborators)
            for wanted in signature.collaborators
        ):
            return
        wanted = [setting.name for setting in signature.settings]
        if foreign := [setting for setting in wanted if setting not in spec]:
            raise PluginError(
                f"{path}: the checker of '{name}' asks for '{foreign[0]}', which is no setting of its constructor"
            )
        given = {setting: spec[setting] for setting in wanted}
        signature.construct(checker, given, collaborators, seed, path=path, registry=self.registry)

    def _object(self, name: str, kind: str, path: str) -> object:
        if name not in self.objects:
            raise ConfigurationError(
                f"the {KINDS[kind].noun} of this run is a Python object, {name.removeprefix(PYTHON)}, which a file "
                "cannot hold; resume "
                "with automl_nas.search(..., out=DIRECTORY, resume=True) and the same objects",
                path=path,
            )
        return self.objects[name]


def separate_objects(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, object]]:
    """Split a configuration written in Python into plain data and the objects in it.

    An object (a finished component, or a class or function in the place of a component's name) is replaced by its name
    ``python:module:Class``; settings dataclasses become mappings.
    """
    objects: dict[str, object] = {}

    def walk(value: Any) -> Any:
        if value is None or isinstance(value, str | int | float | bool):
            return value
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, Mapping):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        if is_dataclass(value) and not isinstance(value, type) and _kind(type(value)) is None:
            return walk(to_json(value))
        # By type name rather than identity: the same script names its objects alike each time it runs. Classes and
        # functions have names of their own.
        owner = value if hasattr(value, "__qualname__") else type(value)
        name = base = f"{PYTHON}{owner.__module__}:{owner.__qualname__}"
        count = 1
        while name in objects and objects[name] is not value:
            count += 1
            name = f"{base}#{count}"
        objects[name] = value
        return name

    return {key: walk(item) for key, item in raw.items()}, objects


def _kind(cls: type) -> str | None:
    return next((kind for kind, description in KINDS.items() if derives(cls, description.base)), None)


def _finished(made: object, kind: str) -> bool:
    """Whether it is a component already, rather than what makes one."""
    return not isinstance(made, type) and derives(type(made), KINDS[kind].base)
