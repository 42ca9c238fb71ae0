"""The registry: kind -> name -> component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin.component import Component, Source
from automl_nas.plugin.kinds import KINDS, produced_class
from automl_nas.plugin.schema import ComponentResolver
from automl_nas.plugin.settings import from_config
from automl_nas.plugin.validation_errors import join


class Registry:
    """All components, by kind and name."""

    def __init__(self) -> None:
        self._components: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}
        self._absent: Callable[[], Iterable[str]] = tuple

    def explain_absence(self, absent: Callable[[], Iterable[str]]) -> None:
        """Set the function that explains missing components, with one line for each plugin that is not loaded."""
        self._absent = absent

    def __iter__(self) -> Iterator[Component]:
        return (component for named in self._components.values() for component in named.values())

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of a kind, sorted."""
        return tuple(sorted(self._components[kind]))

    def get(self, kind: str, name: str, *, path: str = "") -> Component:
        """Return a component.

        Args:
            kind: one of `KINDS`.
            name: as registered.
            path: the place of the name in the configuration, for the error message.

        Raises:
            ConfigurationError: the name is not registered; the error offers the nearest name and lists the plugins that
                are not loaded.
        """
        component = self._components[kind].get(name)
        if component is not None:
            return component
        noun = KINDS[kind].noun
        message = f"unknown {noun} '{name}'{did_you_mean(name, self._components[kind])}"
        if other_kinds := [KINDS[other].noun for other, named in self._components.items() if name in named]:
            message += f" ('{name}' is the name of a {' and of a '.join(other_kinds)})"
        if absent := list(self._absent()):
            message += "; a plugin that is not loaded may register it: " + "; ".join(absent)
        raise ConfigurationError(message, path=path)

    def resolve(
        self,
        kind: str,
        spec: str | Mapping[str, Any],
        *,
        path: str = "",
        expected: type | None = None,
        inner: ComponentResolver | None = None,
    ) -> dict[str, Any]:
        """Return the specification with every default filled in, JSON-like: ``{"name": ..., setting: ...}``.

        Resolving a resolved specification returns it unchanged.

        Args:
            kind: one of `KINDS`.
            spec: a name, or a mapping with ``name`` and settings.
            path: the place of the specification in the configuration, e.g. ``stages[0].strategy``.
            expected: the class that the component must be or derive from; None: any component of the kind.
            inner: resolves components inside the settings; None: this registry.

        Raises:
            ConfigurationError: the name is unknown, a setting is unknown, missing or invalid, or the component is not
                of the expected class; the error has the path and the nearest name.
            PluginError: the component cannot be imported, or its signature is invalid.
        """
        settings = from_config(spec, path=path)
        name = settings.pop("name")
        component = self.get(kind, name, path=join(path, "name"))
        if expected is not None:
            check_class(produced_class(component.load()), expected, name, path)
        return {"name": name, **component.signature().validate(settings, path, registry=inner or self)}

    def construct(
        self,
        kind: str,
        spec: str | Mapping[str, Any],
        collaborators: Sequence[object] = (),
        seed: int = 0,
        *,
        path: str = "",
        inner: ComponentResolver | None = None,
    ) -> Any:
        """Resolve a specification and construct its component.

        Args:
            kind: one of `KINDS`.
            spec: a name, or a mapping with ``name`` and settings, resolved or not.
            collaborators: the objects that constructors may receive, recognised by type.
            seed: the argument of constructors with a parameter ``seed``.
            path: the place of the specification in the configuration.
            inner: constructs components inside the settings; None: this registry.

        Raises:
            ConfigurationError: as in `resolve`; also if the constructor rejects a value or a collaborator is missing.
            PluginError: as in `resolve`.
        """
        settings = from_config(spec, path=path)
        component = self.get(kind, settings.pop("name"), path=join(path, "name"))
        loaded = component.load()
        return component.signature().construct(loaded, settings, collaborators, seed, path=path, registry=inner or self)

    def commit(self, components: Sequence[Component]) -> None:
        """Add all components of one plugin, or none of them.

        Raises:
            PluginError: a name is already registered; the error names both distributions.
        """
        fresh: dict[tuple[str, str], Component] = {}
        for component in components:
            key = (component.kind, component.name)
            taken = self._components[component.kind].get(component.name) or fresh.get(key)
            if taken is not None:
                raise PluginError(
                    f"the {KINDS[component.kind].noun} '{component.name}' of {component.source} is already registered "
                    f"by {taken.source}; rename it, or disable one of the two plugins with AUTOML_NAS_DISABLED_PLUGINS"
                )
            fresh[key] = component
        for (kind, name), component in fresh.items():
            self._components[kind][name] = component

    def withdraw(self, source: Source) -> None:
        """Remove every component of a plugin."""
        for named in self._components.values():
            for name in [name for name, component in named.items() if component.source == source]:
                del named[name]


def check_class(produced: type | None, expected: type, name: str, path: str) -> None:
    """Raise a ConfigurationError unless the class of a component is the expected one or derives from it."""
    if produced is None or not issubclass(produced, expected):
        raise ConfigurationError(f"must be of type {expected.__name__}; '{name}' is not", path=path)
