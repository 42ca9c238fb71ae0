"""The registry: kind -> name -> component, nothing of which is imported until it is asked for."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, PluginError, did_you_mean
from automl_nas.plugin.kinds import KINDS, Kind, derives, product
from automl_nas.plugin.located import join

if TYPE_CHECKING:
    from automl_nas.plugin.component import Signature

_NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from.

    Attributes:
        plugin: its name, that of the entry point.
        module: the module (or ``module:object``) that holds its hooks.
        distribution: the distribution that installed it; empty for a module given in Python.
        version: of the distribution.
    """

    plugin: str
    module: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        where = f"distribution '{self.distribution}' {self.version}" if self.distribution else f"module {self.module}"
        return f"plugin '{self.plugin}' ({where.rstrip()})"


@dataclass(frozen=True)
class Component:
    """Something registered under a name.

    Attributes:
        kind: one of `KINDS`.
        name: what users write.
        reference: ``package.module:Object``.
        summary: one line.
        source: the plugin it comes from.
    """

    kind: str
    name: str
    reference: str
    summary: str
    source: Source

    @property
    def plugin(self) -> str:
        """The name of the plugin."""
        return self.source.plugin

    @property
    def distribution(self) -> str:
        """The name of the distribution; empty for a module given in Python."""
        return self.source.distribution

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return self.source.version

    def __str__(self) -> str:
        return f"{KINDS[self.kind].noun} '{self.name}' of {self.source}"

    def load(self) -> Callable[..., Any]:
        """Import the object.

        Raises:
            PluginError: the import fails, or the object is not what its kind asks for; names plugin and distribution.
        """
        module, _, path = self.reference.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
            for part in path.split("."):
                loaded = getattr(loaded, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self.broken(f"cannot import {self.reference}: {type(error).__name__}: {error}") from error
        if reason := _unfit(loaded, KINDS[self.kind]):
            raise self.broken(f"{self.reference} {reason}")
        result: Callable[..., Any] = loaded
        return result

    def signature(self) -> Signature:
        """Return its collaborators and settings.

        Raises:
            PluginError: it cannot be imported, or its constructor is no configuration schema.
        """
        from automl_nas.plugin.component import Signature

        try:
            return Signature.of(self.load(), name=self.name)
        except PluginError as error:
            raise error if str(error).startswith(str(self)) else self.broken(str(error)) from error

    def broken(self, reason: str) -> PluginError:
        """Return the error that says what is wrong with this component."""
        return PluginError(f"{self}: {reason}")


def _unfit(loaded: object, kind: Kind) -> str:
    if not isinstance(loaded, type):
        made = product(loaded)
        if made is None:
            return f"is neither a class nor a function with a return annotation, but {loaded!r}"
        return "" if derives(made, kind.base) else f"returns {made.__name__}, which is no {kind.base_name}"
    if not derives(loaded, kind.base):
        return f"does not derive from {kind.base_name}"
    if inspect.isabstract(loaded):
        return f"is abstract: it lacks {', '.join(sorted(getattr(loaded, '__abstractmethods__', ())))}"
    return ""


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

    def resolve(self, kind: str, spec: str | Mapping[str, Any], *, path: str = "") -> dict[str, Any]:
        """Return the specification with every default filled in, JSON-like: ``{"name": ..., setting: ...}``.

        Resolving twice changes nothing.

        Args:
            kind: one of `KINDS`.
            spec: a name, or a mapping with ``name`` and settings.
            path: where it stands in the configuration, e.g. ``stages[0].strategy``.

        Raises:
            ConfigurationError: unknown name, unknown, missing or wrong setting; located, with the nearest name.
            PluginError: the component cannot be imported, or its signature is wrong.
        """
        from automl_nas.plugin.component import from_config

        settings = from_config(spec, path=path)
        name = settings.pop("name")
        component = self.get(kind, name, path=join(path, "name"))
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
        from automl_nas.plugin.component import from_config

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


class Staging:
    """Collects what one plugin registers under one kind: the `Register` that its hook is given."""

    def __init__(self, kind: str, source: Source) -> None:
        self._kind, self._source = kind, source
        self.components: list[Component] = []

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a component; see `Register`.

        Raises:
            PluginError: the name or the reference is malformed.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"{name!r} is no name: lower case letters, digits, '_' and '-', starting with a letter")
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise PluginError(f"'{name}': the reference must be a text 'package.module:Object', not {reference!r}")
        if not isinstance(summary, str) or "\n" in summary:
            raise PluginError(f"'{name}': the summary must be one line of text, not {summary!r}")
        self.components.append(Component(self._kind, name, reference, summary, self._source))
