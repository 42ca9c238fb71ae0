"""Finding plugins: entry points, the environment, and what a plugin's module must look like."""

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
"""Environment: load only these, a comma list of plugin or distribution names; empty: none."""
DISABLED = "AUTOML_NAS_DISABLED_PLUGINS"
"""Environment: do not load these, a comma list of plugin or distribution names."""
STRICT = "AUTOML_NAS_STRICT_PLUGINS"
"""Environment: 1 makes a broken plugin an error instead of a line in a list."""

FIRST_PARTY = "automl-nas"
"""The distribution that is loaded first, so that nobody can take its names."""

HOOKS = frozenset(
    name for name in vars(hookspecs) if pluggy.PluginManager(PROJECT).parse_hookspec_opts(hookspecs, name) is not None
)
"""The names of all hooks."""


@dataclass(frozen=True)
class Found:
    """An entry point and where it comes from."""

    source: Source
    entry_point: EntryPoint


@dataclass(frozen=True)
class Selection:
    """Which plugins the environment wants.

    Attributes:
        only: names in `ONLY`, None if it is not set.
        disabled: names in `DISABLED`.
        strict: whether `STRICT` is on.
    """

    only: frozenset[str] | None
    disabled: frozenset[str]
    strict: bool

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Selection:
        """Read the environment."""
        return cls(
            only=_names(environ[ONLY]) if ONLY in environ else None,
            disabled=_names(environ.get(DISABLED, "")),
            strict=environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no"),
        )

    def wants(self, source: Source) -> bool:
        """Whether a plugin shall be loaded."""
        names = {normal(source.plugin), normal(source.distribution)}
        return (self.only is None or bool(names & self.only)) and not names & self.disabled

    def missing(self, sources: Iterable[Source]) -> dict[str, str]:
        """Return the names in `ONLY` that no plugin bears -> why that is wrong."""
        known = {name for source in sources for name in map(normal, (source.plugin, source.distribution))}
        return {
            name: f"{ONLY} names it, and it is not installed{did_you_mean(name, known)}"
            for name in sorted((self.only or frozenset()) - known)
        }


def normal(name: str) -> str:
    """Return a distribution's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def discover() -> list[Found]:
    """Return the entry points of all installed plugins: first-party ones first, then by distribution and name.

    Nothing is imported.
    """
    found = []
    labels: dict[int, tuple[str, str]] = {}
    for entry_point in entry_points(group=PROJECT):
        distribution = entry_point.dist
        # Reading the name and version parses the distribution's metadata: once for each is enough.
        label = labels.get(id(distribution))
        if label is None:
            label = ("", "") if distribution is None else (distribution.name, distribution.version)
            labels[id(distribution)] = label
        found.append(Found(Source(entry_point.name, entry_point.value, *label), entry_point))

    def order(item: Found) -> tuple[bool, str, str]:
        distribution = normal(item.source.distribution)
        return distribution != FIRST_PARTY, distribution, item.source.plugin

    return sorted(found, key=order)


def load_single(module: Any, source: Source) -> pluggy.PluginManager:
    """Return a pluggy manager that holds this plugin alone, so that its hooks can be called by themselves.

    Args:
        module: a module, or any object, with functions marked `hookimpl`.
        source: its name.

    Raises:
        PluginError: a marked function is no hook, a hook is not marked, its arguments are wrong, or there is no hook.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    hooks = 0
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is not None:
            hook = options.get("specname") or name
            if hook not in HOOKS:
                raise PluginError(f"there is no hook '{hook}'{did_you_mean(hook, HOOKS)}")
            if options.get("wrapper") or options.get("hookwrapper"):
                raise PluginError(
                    f"the hook '{hook}' is a wrapper; plugins are called by themselves, so it wraps nothing"
                )
            hooks += 1
        elif name in HOOKS:
            member = getattr(module, name)
            if isinstance(member, FunctionType) and member.__module__ == getattr(module, "__name__", None):
                raise PluginError(f"'{name}' is not marked: put @hookimpl (from automl_nas.plugin) before it")
    if not hooks:
        raise PluginError(f"it implements no hook; known: {', '.join(sorted(HOOKS))}")
    try:
        manager.register(module, source.plugin)
    except pluggy.PluginValidationError as error:
        raise PluginError(" ".join(str(error).split())) from error
    return manager


def _names(text: str) -> frozenset[str]:
    return frozenset(normal(part) for name in text.split(",") if (part := name.strip()))
