"""The plugin manager: loads plugins one by one, so that a broken plugin does not affect the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from automl_nas.errors import PluginError
from automl_nas.plugin.compatibility import DECLARATION, check_version
from automl_nas.plugin.component import Component, Source, Staging
from automl_nas.plugin.discovery import ONLY, EnvironmentFilter, InstalledPlugin, discover, load_single
from automl_nas.plugin.error_text import one_line, with_place
from automl_nas.plugin.failures import PluginFailure
from automl_nas.plugin.functions import FunctionStaging, PluginFunction, names_of_core
from automl_nas.plugin.hook_observers import HookObservers
from automl_nas.plugin.import_effects import noticing
from automl_nas.plugin.kinds import KINDS
from automl_nas.plugin.registry import Registry

if TYPE_CHECKING:
    import click
    import pluggy

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plugin:
    """A plugin that was loaded without an error.

    Attributes:
        source: its name, module and distribution.
        components: the components it registered.
        commands: the commands it added, by name.
        functions: the functions it offers as ``automl_nas.NAME``, by name.
        observers: the names of the observer hooks it implements.
    """

    source: Source
    components: tuple[Component, ...] = ()
    commands: Mapping[str, click.Command] = field(default_factory=dict)
    functions: Mapping[str, PluginFunction] = field(default_factory=dict)
    observers: tuple[str, ...] = ()


class PluginManager:
    """Loads plugins and calls their hooks, one plugin after another.

    The components of a plugin are committed to the registry when all its registration hooks have returned. A plugin
    whose loading raises an error registers no components and is listed in `broken`; other plugins are not affected.

    Args:
        environ: the variables ``AUTOML_NAS_*PLUGINS`` and ``AUTOML_NAS_STRICT``; by default those of the process.

    Attributes:
        registry: the registered components.
        observers: the plugins that implement observer hooks.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.registry = Registry()
        self.registry.explain_absence(self._absent)
        self._filter = EnvironmentFilter.of(os.environ if environ is None else environ)
        self._plugins: dict[Source, Plugin] = {}
        self._broken: dict[Source, PluginFailure] = {}
        self._remarks: dict[Source, list[PluginFailure]] = {}
        self._disabled: list[Source] = []
        self.observers = HookObservers()

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """The plugins that were loaded without an error, in the order of loading."""
        return tuple(self._plugins.values())

    @property
    def broken(self) -> tuple[PluginFailure, ...]:
        """The failures of the plugins that could not be loaded."""
        return tuple(self._broken.values())

    @property
    def remarks(self) -> tuple[PluginFailure, ...]:
        """What is wrong with plugins that work: they are deprecated, or print or change settings while imported."""
        return tuple(remark for remarks in self._remarks.values() for remark in remarks)

    @property
    def disabled(self) -> tuple[Source, ...]:
        """The plugins that the environment variables exclude."""
        return tuple(self._disabled)

    @property
    def strict(self) -> bool:
        """Whether a broken plugin, a remark about a plugin, or an observer that raises, is an error."""
        return self._filter.strict

    @property
    def disabled_observers(self) -> tuple[PluginFailure, ...]:
        """The failures of observer hooks that raised an error and are no longer called."""
        return self.observers.failures

    def load(self, plugins: Iterable[InstalledPlugin] | None = None) -> PluginManager:
        """Load plugins that are not loaded yet; return self.

        Args:
            plugins: the plugins to load; by default all that are installed.

        Raises:
            PluginError: a plugin is broken, and ``AUTOML_NAS_STRICT`` is on.
        """
        installed = list(discover() if plugins is None else plugins)
        for item in installed:
            if item.source in self._plugins:
                continue
            if self._filter.includes(item.source):
                self._load_plugin(item.source, item.entry_point.load)
            else:
                self._disabled.append(item.source)
        for name, reason in self._filter.missing(item.source for item in installed).items():
            self._fail(Source(name, ONLY), PluginError(reason))
        return self

    def register_module(self, module: Any, name: str = "") -> Plugin:
        """Load a plugin from Python: a module, or any object with functions marked `hookimpl`.

        Args:
            module: the plugin.
            name: the plugin's name; by default the name of the module.

        Raises:
            PluginError: the plugin is broken. It registers no components and is listed in `broken`.
        """
        label = getattr(module, "__name__", type(module).__name__)
        source = Source(name or label, label)
        if source in self._plugins:
            raise PluginError(f"{source} is already loaded; register the second one under another name")
        self._load_plugin(source, lambda: module)
        if source in self._broken:
            failure = self._broken[source]
            raise PluginError(str(failure)) from failure.cause
        return self._plugins[source]

    def add_commands(self, cli: click.Group) -> None:
        """Add the plugins' commands to the command line.

        A plugin with a command whose name the command line already uses is broken: its components are withdrawn.

        Raises:
            PluginError: a plugin is broken, and ``AUTOML_NAS_STRICT`` is on.
        """
        own = dict(cli.commands)
        for plugin in self.plugins:
            taken = sorted(name for name in plugin.commands if name in own and own[name] is not plugin.commands[name])
            if taken:
                self._withdraw(plugin.source)
                self._fail(plugin.source, PluginError(f"the command '{taken[0]}' is a command of automl-nas itself"))
                continue
            for name, command in plugin.commands.items():
                cli.add_command(command, name)

    def function(self, name: str) -> Any:
        """Return what a plugin offers as ``automl_nas.NAME``.

        Raises:
            AttributeError: no plugin offers it; the error lists the plugins that are not loaded.
            PluginError: it cannot be imported.
        """
        functions = {own: function for plugin in self.plugins for own, function in plugin.functions.items()}
        if name in functions:
            return functions[name].load()
        message = f"module 'automl_nas' has no attribute '{name}'"
        if absent := self._absent():
            message += "; a plugin that is not loaded may offer it: " + "; ".join(absent)
        raise AttributeError(message)

    def check(self) -> list[PluginFailure]:
        """Import all components and functions and check signatures; return all failures, also of broken plugins."""
        failures = list(self.broken)
        for component in self.registry:
            try:
                component.signature().verify(registry=self.registry)
            except PluginError as error:
                failures.append(PluginFailure(component.source, str(error), error, component))
        for function in (function for plugin in self.plugins for function in plugin.functions.values()):
            try:
                function.load()
            except PluginError as error:
                failures.append(PluginFailure(function.source, str(error), error))
        return failures

    def _load_plugin(self, source: Source, load: Callable[[], Any]) -> None:
        remarks: list[str] = []
        try:
            with noticing(remarks.append):
                module = load()
                hooks = load_single(module, source)
                remarks += filter(None, [check_version(getattr(module, DECLARATION, None))])
                components = self._stage_components(hooks, source)
                commands = self._stage_commands(hooks, source)
                functions = self._stage_functions(hooks, source)
            self._remark(source, remarks)
            self.registry.commit(components)
        except KeyboardInterrupt as error:  # Ctrl-C, or raised by the plugin itself
            text = f"{source} was being loaded; AUTOML_NAS_DISABLED_PLUGINS={source.plugin} leaves it out"
            raise KeyboardInterrupt(*error.args or (text,)) from error
        # Not only Exception: a module that calls sys.exit, or a native extension's panic, must not end the program.
        except BaseException as error:
            self._fail(source, error)
            return
        self._broken.pop(source, None)
        self._plugins[source] = Plugin(
            source, tuple(components), commands, functions, self.observers.add(source, hooks)
        )

    def _stage_components(self, hooks: pluggy.PluginManager, source: Source) -> list[Component]:
        components = []
        for kind in KINDS:
            staging = Staging(kind, source)
            _call(hooks, f"register_{kind}", register=staging)
            components += staging.components
        return components

    def _stage_commands(self, hooks: pluggy.PluginManager, source: Source) -> dict[str, click.Command]:
        if not hooks.hook.register_commands.get_hookimpls():
            return {}
        import click

        staging = click.Group()
        _call(hooks, "register_commands", cli=staging)
        for plugin in self.plugins:
            for name in staging.commands:
                if name in plugin.commands:
                    raise PluginError(f"the command '{name}' of {source} is already registered by {plugin.source}")
        return dict(staging.commands)

    def _stage_functions(self, hooks: pluggy.PluginManager, source: Source) -> dict[str, PluginFunction]:
        if not hooks.hook.register_functions.get_hookimpls():
            return {}
        taken: dict[str, object] = dict.fromkeys(names_of_core(), "automl_nas itself")
        taken |= {name: plugin.source for plugin in self.plugins for name in plugin.functions}
        staging = FunctionStaging(source, taken)
        _call(hooks, "register_functions", register=staging)
        return staging.functions

    def _withdraw(self, source: Source) -> None:
        del self._plugins[source]
        self.registry.withdraw(source)
        self.observers.remove(source)

    def _fail(self, source: Source, error: BaseException) -> None:
        failure = PluginFailure(source, with_place(error, source.module), error)
        self._broken[source] = failure
        if self._filter.strict:
            raise PluginError(str(failure)) from error
        _log.warning("%s is broken and not used: %s", source, failure.error)

    def _remark(self, source: Source, remarks: Sequence[str]) -> None:
        """Record what is wrong with a plugin that works.

        Raises:
            PluginError: ``AUTOML_NAS_STRICT`` is on.
        """
        if remarks and self._filter.strict:
            raise PluginError("; ".join(remarks))
        self._remarks[source] = [PluginFailure(source, remark) for remark in remarks]
        for remark in self._remarks[source]:
            _log.warning("%s", remark)

    def _absent(self) -> list[str]:
        return [str(failure) for failure in self.broken] + [f"{source}: disabled" for source in self._disabled]


@cache
def default_manager() -> PluginManager:
    """Return the manager of this process, with all installed plugins; they are loaded at the first call."""
    return PluginManager().load()


def _call(hooks: pluggy.PluginManager, hook: str, **arguments: object) -> None:
    try:
        getattr(hooks.hook, hook)(**arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(f"{hook}: {one_line(error)}") from error
