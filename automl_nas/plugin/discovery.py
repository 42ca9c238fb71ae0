"""Discovering plugins: entry points, environment variables, and the checks of a plugin's module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType
from typing import Any

import pluggy

from automl_nas.errors import PluginError, did_you_mean
from automl_nas.plugin import hookspecs
from automl_nas.plugin.api import PROJECT
from automl_nas.plugin.component import Source

ONLY = "AUTOML_NAS_PLUGINS"
"""Environment variable: load only these plugins: names of plugins or distributions, comma-separated; may be empty."""
DISABLED = "AUTOML_NAS_DISABLED_PLUGINS"
"""Environment variable: do not load these plugins: names of plugins or distributions, comma-separated."""
STRICT = "AUTOML_NAS_STRICT"
"""Environment variable, for CI: 1 raises an error for a broken plugin, which is otherwise only listed, and for what is
otherwise a warning: a deprecated plugin, and one that prints or changes global settings while it is imported."""
STRICT_PLUGINS = "AUTOML_NAS_STRICT_PLUGINS"
"""Environment variable: the earlier name of `STRICT`."""

FIRST_PARTY = "automl-nas"
"""The distribution whose plugins are loaded first, so that no other plugin can register their names."""

_parser = pluggy.PluginManager(PROJECT)
_SPECIFICATIONS = {
    name: options for name in vars(hookspecs) if (options := _parser.parse_hookspec_opts(hookspecs, name)) is not None
}

HOOKS = frozenset(_SPECIFICATIONS)
"""The names of all hooks."""


@dataclass(frozen=True)
class InstalledPlugin:
    """An entry point and its source."""

    source: Source
    entry_point: EntryPoint


@dataclass(frozen=True)
class EnvironmentFilter:
    """Which plugins the environment variables select.

    Attributes:
        only: the names in `ONLY`; None if the variable is not set.
        disabled: the names in `DISABLED`.
        strict: whether `STRICT` or `STRICT_PLUGINS` is on.
    """

    only: frozenset[str] | None
    disabled: frozenset[str]
    strict: bool

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> EnvironmentFilter:
        """Read the environment variables."""
        return cls(
            only=_names(environ[ONLY]) if ONLY in environ else None,
            disabled=_names(environ.get(DISABLED, "")),
            strict=any(
                environ.get(name, "").strip().lower() not in ("", "0", "false", "no")
                for name in (STRICT, STRICT_PLUGINS)
            ),
        )

    def includes(self, source: Source) -> bool:
        """Whether a plugin is loaded."""
        names = {normalized(source.plugin), normalized(source.distribution)}
        return (self.only is None or bool(names & self.only)) and not names & self.disabled

    def missing(self, sources: Iterable[Source]) -> dict[str, str]:
        """Return name in `ONLY` -> error message, for each name that is not the name of an installed plugin."""
        installed = {name for source in sources for name in map(normalized, (source.plugin, source.distribution))}
        return {
            name: f"{ONLY} contains this name, which is not installed{did_you_mean(name, installed)}"
            for name in sorted((self.only or frozenset()) - installed)
        }


def normalized(name: str) -> str:
    """Return the normalized name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def discover() -> list[InstalledPlugin]:
    """Return the entry points of all installed plugins: first-party ones first, then by distribution and name.

    No plugin is imported.
    """
    installed = []
    labels: dict[int, tuple[str, str]] = {}
    for entry_point in entry_points(group=PROJECT):
        distribution = entry_point.dist
        # Reading a name and version parses the distribution's metadata: do it once for each distribution.
        label = labels.get(id(distribution))
        if label is None:
            label = ("", "") if distribution is None else (distribution.name, distribution.version)
            labels[id(distribution)] = label
        installed.append(InstalledPlugin(Source(entry_point.name, entry_point.value, *label), entry_point))

    def order(item: InstalledPlugin) -> tuple[bool, str, str]:
        distribution = normalized(item.source.distribution)
        return distribution != FIRST_PARTY, distribution, item.source.plugin

    return sorted(installed, key=order)


class _OnePlugin(pluggy.PluginManager):
    """A pluggy manager that looks at each name of its plugin once: registering looks at all of them again."""

    def __init__(self, project_name: str) -> None:
        super().__init__(project_name)
        self._options: dict[str, pluggy.HookimplOpts | None] = {}

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if name not in self._options:
            self._options[name] = super().parse_hookimpl_opts(plugin, name)
        return self._options[name]

    def parse_hookspec_opts(self, module_or_class: object, name: str) -> pluggy.HookspecOpts | None:
        return _SPECIFICATIONS.get(name)


def load_single(module: Any, source: Source) -> pluggy.PluginManager:
    """Return a pluggy manager with this plugin only, so that its hooks are called without those of other plugins.

    Args:
        module: a module, or any object, with functions marked `hookimpl`.
        source: of the plugin; its name is the name in the pluggy manager.

    Raises:
        PluginError: a marked function is not a hook, a hook is not marked or has wrong arguments, or the module
            implements no hook.
    """
    manager = _OnePlugin(PROJECT)
    manager.add_hookspecs(hookspecs)
    hooks = 0
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is not None:
            hook = options.get("specname") or name
            if hook not in HOOKS:
                raise PluginError(f"unknown hook '{hook}'{did_you_mean(hook, HOOKS)}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(
                    f"the hook '{hook}' is a wrapper; plugins are called separately, so a wrapper has no effect"
                )
            if unknown := sorted(set(_argument_names(getattr(module, name))) - set(_arguments(hook))):
                raise PluginError(
                    f"the hook '{hook}' has an argument '{unknown[0]}'; its arguments are {', '.join(_arguments(hook))}"
                )
            hooks += 1
        elif name in HOOKS:
            member = getattr(module, name)
            if isinstance(member, FunctionType) and member.__module__ == getattr(module, "__name__", None):
                raise PluginError(f"'{name}' is not marked: put @hookimpl (from automl_nas.plugin) before it")
    if not hooks:
        raise PluginError(f"it does not implement any hook; the hooks are {', '.join(sorted(HOOKS))}")
    try:
        manager.register(module, source.plugin)
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    return manager


def _arguments(hook: str) -> tuple[str, ...]:
    return _argument_names(getattr(hookspecs, hook))


def _argument_names(function: Any) -> tuple[str, ...]:
    positional, _ = pluggy._hooks.varnames(function)  # as pluggy itself reads them
    return positional


def _names(text: str) -> frozenset[str]:
    return frozenset(normalized(part) for name in text.split(",") if (part := name.strip()))
