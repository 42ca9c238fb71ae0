"""Components of a run: those that its configuration names, and those that a caller passes as Python objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.plugin.component import unfit
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.kinds import KINDS, derives, produced_class
from automl_nas.plugin.references import PYTHON
from automl_nas.plugin.registry import Registry, check_class
from automl_nas.plugin.schema import Setting, to_json
from automl_nas.plugin.settings import Nested, Place, from_config
from automl_nas.plugin.signature import Signature, component_seed
from automl_nas.plugin.validation_errors import join


class Components:
    """Resolves and constructs components by name, registered ones and Python objects.

    It is the `ComponentResolver` of components inside the settings of others.

    Args:
        registry: the components that plugins registered.
        objects: ``python:module:Class`` -> the class, function or constructed component of that name.
    """

    def __init__(self, registry: Registry, objects: Mapping[str, object]) -> None:
        self.registry, self.objects = registry, dict(objects)

    def resolve(self, kind: str, spec: Any, path: str = "", *, expected: type | None = None) -> dict[str, Any]:
        """Return ``{"name": ..., setting: ...}`` with every default filled in; see `Registry.resolve`."""
        settings = from_config(spec, path=path)
        if not settings["name"].startswith(PYTHON):
            return self.registry.resolve(kind, settings, path=path, expected=expected, inner=self)
        name = settings.pop("name")
        factory = self._object(name, kind, path)
        constructed = is_constructed(factory, kind)
        if expected is not None:
            check_class(type(factory) if constructed else produced_class(factory), expected, name, path)
        if constructed:
            if settings:
                raise ConfigurationError(
                    f"'{name}' is a constructed object and takes no settings; remove them, or pass the class",
                    path=join(path, next(iter(settings))),
                )
            return {"name": name}
        return {"name": name, **Signature.of(factory, name=name).validate(settings, path, registry=self)}

    def construct(
        self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, path: str
    ) -> Any:
        """Construct a resolved component; return an object that is constructed already."""
        name = spec["name"]
        with component_errors(self.registry, self.describe(kind, name), path=path):
            if not name.startswith(PYTHON):
                return self.registry.construct(kind, spec, collaborators, seed, path=path, inner=self)
            factory = self._object(name, kind, path)
            if is_constructed(factory, kind):
                return factory
            if isinstance(factory, type) and (reason := unfit(factory, KINDS[kind])):
                raise PluginError(f"{path}: {self.describe(kind, name)} {reason}")
            settings = {key: value for key, value in spec.items() if key != "name"}
            signature = Signature.of(factory, name=name)
            return signature.construct(factory, settings, collaborators, seed, path=path, registry=self)

    def describe(self, kind: str, name: str) -> str:
        """Return a description for messages: the name, and for a registered component its plugin and distribution."""
        if not name.startswith(PYTHON) and name in self.registry.names(kind):
            return f"the {self.registry.get(kind, name)}"
        return f"the {KINDS[kind].noun} {name.removeprefix(PYTHON)}"

    def factory(self, kind: str, name: str, path: str) -> Any:
        """Return the class or function of that name, or the object that is constructed already."""
        if name.startswith(PYTHON):
            return self._object(name, kind, path)
        return self.registry.get(kind, name, path=join(path, "name")).load()

    def class_of(self, kind: str, name: str, path: str) -> Any:
        """Return the class of a component before it is constructed, or the object that is constructed already.

        Raises:
            PluginError: a function makes the component, and its return annotation does not name a class.
        """
        factory = self.factory(kind, name, path)
        if is_constructed(factory, kind):
            return factory
        component_class = produced_class(factory)
        if component_class is None:
            raise PluginError(
                f"{path}: the function '{name}' needs a return annotation: the {KINDS[kind].base_name} it returns"
            )
        return component_class

    def settings(self, kind: str, name: str, path: str) -> tuple[Setting, ...]:
        """Return the settings of a component; an object that is constructed already has none."""
        factory = self.factory(kind, name, path)
        return () if is_constructed(factory, kind) else Signature.of(factory, name=name).settings

    def check_collaborators(self, kind: str, spec: Mapping[str, Any], available: Sequence[type], path: str) -> None:
        """Check that a run can supply the collaborators of a component and of those inside its settings.

        Args:
            kind: of the component.
            spec: its resolved configuration.
            available: the types of the collaborators that the run supplies.
            path: of the component in the configuration.

        Raises:
            ConfigurationError: the constructor requires a collaborator of another type.
        """
        name = spec["name"]
        factory = self.factory(kind, name, path)
        if is_constructed(factory, kind):
            return
        for collaborator in Signature.of(factory, name=name).collaborators:
            if not collaborator.optional and not any(issubclass(cls, collaborator.type) for cls in available):
                raise ConfigurationError(
                    f"'{name}' needs a {collaborator.type.__name__}, which this run does not supply", path=path
                )
        for place, item in self.inside(kind, spec, path):
            self.check_collaborators(item.kind, item.spec, available, join(path, *place))

    def takes(self, kind: str, name: str, collaborator: type, path: str) -> bool:
        """Return whether the constructor of a component takes a collaborator of this type."""
        factory = self.factory(kind, name, path)
        if is_constructed(factory, kind):
            return False
        return any(item.type is collaborator for item in Signature.of(factory, name=name).collaborators)

    def check(self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, path: str) -> None:
        """Call the checker of a component's class with the arguments that the constructor will get.

        The checkers of components inside its settings are called, too, unless the checker takes these components
        constructed.

        A checker is skipped if the component is an object that is constructed already, if a function makes it, or if a
        collaborator that the checker requires does not exist yet. It is also skipped if a component inside the settings
        that it takes requires artifacts, which exist in a run only.

        Args:
            kind: of the component.
            spec: its resolved configuration.
            collaborators: those that exist so far.
            seed: as for `construct`.
            path: of the component in the configuration.

        Raises:
            PluginError: a checker has a setting that the constructor does not have.
            UserError: from a checker.
        """
        taken = self._call_checker(kind, spec, collaborators, seed, path)
        for place, item in self.inside(kind, spec, path):
            if place[0] not in taken:
                self.check(item.kind, item.spec, collaborators, component_seed(seed, place), join(path, *place))

    def _call_checker(
        self, kind: str, spec: Mapping[str, Any], collaborators: Sequence[object], seed: int, path: str
    ) -> Sequence[str]:
        """Call the checker of a component; return the names of the settings that it took, none if it was skipped."""
        name = spec["name"]
        factory = self.factory(kind, name, path)
        if not isinstance(factory, type) or not hasattr(factory, "checker"):
            return ()
        checker = factory.checker()
        signature = Signature.of(checker, name=name)
        if not all(
            parameter.optional or any(isinstance(collaborator, parameter.type) for collaborator in collaborators)
            for parameter in signature.collaborators
        ):
            return ()
        names = [setting.name for setting in signature.settings]
        if unknown := [setting for setting in names if setting not in spec]:
            raise PluginError(
                f"{path}: the checker of '{name}' asks for '{unknown[0]}', which is not a setting of its constructor"
            )
        settings = {setting: spec[setting] for setting in names}
        inner = signature.nested(settings, path, registry=self)
        if any(self.needs_artifacts(item.kind, item.spec, join(path, *place)) for place, item in inner):
            return ()
        with component_errors(self.registry, self.describe(kind, name), path=path):
            signature.construct(checker, settings, collaborators, seed, path=path, registry=self)
        return names

    def needs_artifacts(self, kind: str, spec: Mapping[str, Any], path: str) -> bool:
        """Whether a component, or one inside its settings, cannot be constructed without artifacts.

        Args:
            kind: of the component.
            spec: its resolved configuration.
            path: of the component in the configuration.
        """
        factory = self.factory(kind, spec["name"], path)
        if is_constructed(factory, kind):
            return False
        if any(
            item.type is Artifacts and not item.optional
            for item in Signature.of(factory, name=spec["name"]).collaborators
        ):
            return True
        inner = self.inside(kind, spec, path)
        return any(self.needs_artifacts(item.kind, item.spec, join(path, *place)) for place, item in inner)

    def inside(self, kind: str, spec: Mapping[str, Any], path: str) -> list[tuple[Place, Nested]]:
        """Return the components inside the settings of a component with their places; see `Signature.nested`.

        Args:
            kind: of the component.
            spec: its resolved configuration.
            path: of the component in the configuration.
        """
        settings = dict(spec)
        name = settings.pop("name")
        factory = self.factory(kind, name, path)
        if is_constructed(factory, kind):
            return []
        return Signature.of(factory, name=name).nested(settings, path, registry=self)

    def _object(self, name: str, kind: str, path: str) -> Any:
        if name not in self.objects:
            noun = KINDS[kind].noun
            key = noun.replace(" ", "_")
            key = f"final={{{key!r}: ...}}" if path.startswith("final.") else f"{key}=..."
            command = ""
            if kind in ("spaces", "tasks"):
                command = f", or automl-nas export DIRECTORY --{noun} module:function --trust"
            raise ConfigurationError(
                f"the {noun} of this run is the Python object {name.removeprefix(PYTHON)}, which a file cannot hold; "
                "pass the same object: to continue the run, automl_nas.search(..., out=DIRECTORY, resume=True); to "
                f"read its result, automl_nas.open_run(DIRECTORY, {key}){command}",
                path=path,
            )
        return self.objects[name]


def separate_objects(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, object]]:
    """Separate a configuration written in Python into plain data and Python objects.

    A constructed component, and a class or function used as a component's name, is replaced by the name
    ``python:module:Class``; settings dataclasses become mappings.

    Returns:
        The plain data, and name -> object.
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
        # Named by type, not by identity: a script that is run again then gives its objects the same names.
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


def is_constructed(factory: object, kind: str) -> bool:
    """Whether an object is a component already, not a class or function that makes one."""
    return not isinstance(factory, type) and derives(type(factory), KINDS[kind].base)
