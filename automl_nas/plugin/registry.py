"""The registry: kind -> name -> component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin.component import Component, Source
from automl_nas.plugin.kinds import KINDS, produced_class
from automl_nas.plugin.validation_errors import join


class Registry:
    """All components, by kind and name."""

    def __init__(self) -> None:
        self._components: dict[str, dict[str, Component]] = {kind: {} for kind in KINDS}
        self._absent: Callable[[], Iterable[str]] = tuple

    def explain_absence(self, absent: Callable[[], Iterable[str]]) -> None:
        """Set who can say why a component may be missing: one text for each plugin that is not loaded."""
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
            path: where the name stands in the configuration, for the message.

        Raises:
            ConfigurationError: unknown; offers the nearest name and says which plugins could not be loaded.
        """
        found = self._components[kind].get(name)
        if found is not None:
            return found
        noun = KINDS[kind].noun
        message = f"unknown {noun} '{name}'{did_you_mean(name, self._components[kind])}"
        if elsewhere := [KINDS[other].noun for other, named in self._components.items() if name in named]:
            message += f" ('{name}' is a name of a {' and of a '.join(elsewhere)})"
        if absent := list(self._absent()):
            message += "; perhaps it belongs to a plugin that is not loaded: " + "; ".join(absent)
        raise ConfigurationError(message, path=path)

    def resolve(
        self, kind: str, spec: str | Mapping[str, Any], *, path: str = "", expected: type | None = None
    ) -> dict[str, Any]:
        """Return the specification with every default filled in, JSON-like: ``{"name": ..., setting: ...}``.

        Resolving twice changes nothing.

        Args:
            kind: one of `KINDS`.
            spec: a name, or a mapping with ``name`` and settings.
            path: where it stands in the configuration, e.g. ``stages[0].strategy``.
            expected: what it must make, if not any component of the kind will do.

        Raises:
            ConfigurationError: unknown name, unknown, missing or wrong setting, or not what is expected; located, with
                the nearest name.
            PluginError: the component cannot be imported, or its signature is wrong.
        """
        from automl_nas.plugin.signature import from_config

        settings = from_config(spec, path=path)
        name = settings.pop("name")
        component = self.get(kind, name, path=join(path, "name"))
        if expected is not None:
            made = produced_class(component.load())
            if made is None or not issubclass(made, expected):
                raise ConfigurationError(f"must be of the type {expected.__name__}, which '{name}' is not", path=path)
        return {"name": name, **component.signature().validate(settings, path, registry=self)}

    def construct(
        self,
        kind: str,
        spec: str | Mapping[str, Any],
        collaborators: Sequence[object] = (),
        seed: int = 0,
        *,
        path: str = "",
    ) -> Any:
        """Resolve a specification and construct its component.

        Args:
            kind: one of `KINDS`.
            spec: a name, or a mapping with ``name`` and settings, resolved or not.
            collaborators: what may be given to constructors, recognised by type.
            seed: given to constructors that ask for ``seed``.
            path: where it stands in the configuration.

        Raises:
            ConfigurationError: as `resolve`; or the constructor refuses a value, or a collaborator is missing.
            PluginError: as `resolve`.
        """
        from automl_nas.plugin.signature import from_config

        settings = from_config(spec, path=path)
        component = self.get(kind, settings.pop("name"), path=join(path, "name"))
        made = component.load()
        return component.signature().construct(made, settings, collaborators, seed, path=path, registry=self)

    def commit(self, components: Sequence[Component]) -> None:
        """Add the components of one plugin, all or none.

        Raises:
            PluginError: a name is taken; names both distributions.
        """
        fresh: dict[tuple[str, str], Component] = {}
        for component in components:
            key = (component.kind, component.name)
            taken = self._components[component.kind].get(component.name) or fresh.get(key)
            if taken is not None:
                raise PluginError(
                    f"the {KINDS[component.kind].noun} '{component.name}' of {component.source} is already registered "
                    f"by {taken.source}; rename it, or switch one of the two off with AUTOML_NAS_DISABLED_PLUGINS"
                )
            fresh[key] = component
        for (kind, name), component in fresh.items():
            self._components[kind][name] = component

    def withdraw(self, source: Source) -> None:
        """Remove every component of a plugin."""
        for named in self._components.values():
            for name in [name for name, component in named.items() if component.source == source]:
                del named[name]
