"""The stream of a run's events, and its subscribers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import PluginError
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.error_text import one_line
from automl_nas.plugin.events import (
    EVENTS,
    Event,
    Handlers,
    MessageSent,
    RunFinished,
    RunInfo,
    RunStarted,
    SessionEnded,
    StepFinished,
    TrialFinished,
    WarningSent,
)
from automl_nas.plugin.failures import PluginFailure
from automl_nas.plugin.observer import Observer
from automl_nas.streams import stream_seed

if TYPE_CHECKING:
    from automl_nas.plugin.component import Source
    from automl_nas.plugin.manager import PluginManager
    from automl_nas.run.configuration.plan import Plan

_log = logging.getLogger("automl_nas")


@dataclass(frozen=True, eq=False)
class _Subscriber:
    name: str
    handlers: dict[type[Event], Callable[[Any], object]]
    on_failure: Callable[[str, BaseException], object] | None


@final
class Notifications:
    """Sends the events of a run to its subscribers. A subscriber cannot change or end the run.

    If a subscriber raises, the error is logged and the subscriber is removed. Only KeyboardInterrupt passes through.

    Args:
        run: the run.
        strict: a subscriber that raises ends the run.
    """

    def __init__(self, run: RunInfo, *, strict: bool = False) -> None:
        self.run = run
        self._strict = strict
        self._subscribers: list[_Subscriber] = []
        self._by_event: dict[type[Event], tuple[_Subscriber, ...]] = {}

    def subscribe(
        self, name: str, handlers: Handlers, on_failure: Callable[[str, BaseException], object] | None = None
    ) -> None:
        """Add a subscriber.

        Args:
            name: of the subscriber, in messages.
            handlers: kind of event -> function.
            on_failure: called with the reason, in one line, and the exception when the subscriber is removed.
        """
        functions = {kind: function for base, function in handlers.items() for kind in EVENTS if issubclass(kind, base)}
        self._subscribers.append(_Subscriber(name, functions, on_failure))
        self._index()

    def has_subscriber(self, kind: type[Event]) -> bool:
        """Return whether anything is subscribed to a kind of event; if not, the event need not be constructed."""
        return kind in self._by_event

    def send(self, event: Event) -> None:
        """Send an event to its subscribers, in the order in which they subscribed.

        Raises:
            PluginError: a subscriber raised, and the notifications are strict.
        """
        kind = type(event)
        for subscriber in self._by_event.get(kind, ()):
            try:
                subscriber.handlers[kind](event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self._remove(subscriber, event, error)

    def message(self, text: str) -> None:
        """Send a `MessageSent`."""
        self.send(MessageSent(text))

    def warn(self, text: str) -> None:
        """Send a `WarningSent`."""
        self.send(WarningSent(text))

    def close(self) -> None:
        """Send `SessionEnded`, the last event."""
        self.send(SessionEnded())

    def _remove(self, subscriber: _Subscriber, event: Event, error: BaseException) -> None:
        self._subscribers.remove(subscriber)
        self._index()
        reason = f"{event.name}: {one_line(error)}"
        if subscriber.on_failure is not None:
            subscriber.on_failure(reason, error)
        if self._strict:
            raise PluginError(f"{subscriber.name}: {reason}") from error
        _log.warning("%s: %s; it does not receive events of this run any more", subscriber.name, reason, exc_info=error)

    def _index(self) -> None:
        by_event = {kind: tuple(s for s in self._subscribers if kind in s.handlers) for kind in EVENTS}
        self._by_event = {kind: subscribers for kind, subscribers in by_event.items() if subscribers}


def run_info(directory: Path, plan: Plan, *, resumed: bool) -> RunInfo:
    """Return the description of a run that its events carry."""
    objectives = {stage.settings.name: stage.problem.objectives for stage in plan.stages}
    return RunInfo(directory, config=plan.config, resumed=resumed, objectives=objectives)


def make_notifications(run: RunInfo, plan: Plan, manager: PluginManager, handlers: Handlers | None) -> Notifications:
    """Return the notifications of a run with all its subscribers.

    These are, in order: the log, the caller's handlers, the hooks of plugins, the configured observers.

    Raises:
        UserError: an observer rejects its settings, or a new run.
    """
    notifications = Notifications(run, strict=manager.strict)
    notifications.subscribe(
        "the log",
        {
            MessageSent: lambda event: _log.info("%s", event.text),
            WarningSent: lambda event: _log.warning("%s", event.text),
        },
    )
    if handlers:
        notifications.subscribe("handlers", handlers)
    subscribe_hooks(notifications, manager)
    for path, observer in _observers(run, plan).items():
        notifications.subscribe(f"{path} ({type(observer).__name__})", _methods(observer))
    return notifications


def subscribe_hooks(notifications: Notifications, manager: PluginManager) -> None:
    """Subscribe the plugins that observe every run through hooks."""
    for source, handlers in manager.observers.subscribers():
        notifications.subscribe(str(source), handlers, _disable(manager, source))


def _observers(run: RunInfo, plan: Plan) -> dict[str, Observer]:
    """Return path in the configuration -> observer, constructed and, for a new run, checked."""
    seed = stream_seed(plan.seed, "observers")
    observers: dict[str, Observer] = {}
    for position, specification in enumerate(plan.config["observers"]):
        path = f"observers[{position}]"
        observers[path] = plan.components.construct("observers", specification, plan.collaborators(), seed, path)
    for path, observer in () if run.resumed else observers.items():
        with component_errors(plan.components.registry, path=path):
            observer.check(run)
    return observers


def _disable(manager: PluginManager, source: Source) -> Callable[[str, BaseException], None]:
    return lambda reason, error: manager.observers.disable(PluginFailure(source, reason, error))


def _methods(observer: Observer) -> Handlers:
    """Return the methods that an observer overrides, as handlers of events."""
    handlers: dict[str, tuple[type[Event], Callable[[Any], object]]] = {
        "search_started": (RunStarted, lambda event: observer.search_started(event.run)),
        "step_finished": (StepFinished, lambda event: observer.step_finished(event.run, event.step)),
        "trial_finished": (TrialFinished, lambda event: observer.trial_finished(event.run, event.trial)),
        "search_finished": (RunFinished, lambda event: observer.search_finished(event.run, event.result)),
        "close": (SessionEnded, lambda event: observer.close()),
    }
    overridden = [name for name in handlers if getattr(type(observer), name) is not getattr(Observer, name)]
    return dict(handlers[name] for name in overridden)
