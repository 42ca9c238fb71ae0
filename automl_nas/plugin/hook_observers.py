"""The plugins that observe every run through hooks, as subscribers of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from automl_nas.plugin.component import Source
from automl_nas.plugin.discovery import HOOKS
from automl_nas.plugin.failures import PluginFailure

if TYPE_CHECKING:
    import pluggy

    from automl_nas.plugin.events import Event, Handlers

OBSERVER_HOOKS = tuple(sorted(hook for hook in HOOKS if not hook.startswith("register_")))
"""The hooks that observe a run. Each has the name of an event."""

_Call = tuple[Callable[..., object], tuple[str, ...]]
"""A function of a plugin, and the names of its parameters."""


class HookObservers:
    """The observer hooks of all plugins."""

    def __init__(self) -> None:
        self._calls: dict[Source, dict[str, list[_Call]]] = {}
        self._failures: dict[Source, PluginFailure] = {}

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """The plugins whose observer hooks raised; they are not called again in this process."""
        return tuple(self._failures.values())

    def add(self, source: Source, hooks: pluggy.PluginManager) -> tuple[str, ...]:
        """Add the observer hooks of a plugin and return their names."""
        calls: dict[str, list[_Call]] = {}
        for hook in OBSERVER_HOOKS:
            for implementation in getattr(hooks.hook, hook).get_hookimpls():
                calls.setdefault(hook, []).append((implementation.function, tuple(implementation.argnames)))
        if calls:
            self._calls[source] = calls
        return tuple(calls)

    def remove(self, source: Source) -> None:
        """Remove the observer hooks of a plugin."""
        self._calls.pop(source, None)

    def disable(self, failure: PluginFailure) -> None:
        """Remove the observer hooks of a plugin one of which raised, and list the failure."""
        self.remove(failure.source)
        self._failures[failure.source] = failure

    def subscribers(self) -> Iterator[tuple[Source, Handlers]]:
        """Return the plugins that observe runs, each with its handlers of events."""
        from automl_nas.plugin.events import EVENTS

        for source, calls in list(self._calls.items()):
            yield source, {kind: _handler(calls[kind.name]) for kind in EVENTS if kind.name in calls}


def _handler(calls: list[_Call]) -> Callable[[Event], None]:
    """Return a function that calls those of a hook with the fields of an event that they have parameters for."""

    def call(event: Event) -> None:
        for function, parameters in calls:
            function(*[getattr(event, name) for name in parameters])

    return call
