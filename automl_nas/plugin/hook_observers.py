"""Telling the plugins that watch runs, none of which can change or end one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl_nas.errors import PluginError
from automl_nas.plugin.component import Source
from automl_nas.plugin.discovery import HOOKS
from automl_nas.plugin.failures import PluginFailure, one_line

if TYPE_CHECKING:
    import pluggy

    from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
    from automl_nas.strategy.trial import Trial

_log = logging.getLogger(__name__)

OBSERVERS = tuple(sorted(hook for hook in HOOKS if not hook.startswith("register_")))
"""The hooks that watch a run."""


@dataclass(frozen=True)
class _Observer:
    source: Source
    function: Callable[..., object]
    arguments: tuple[str, ...]


class Observers:
    """The observers of all plugins. One that raises is logged and not called again, nor are the others of its plugin.

    Args:
        strict: one that raises is an error instead.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self._plugged: dict[str, list[_Observer]] = {hook: [] for hook in OBSERVERS}
        self._disabled_observers: dict[Source, PluginFailure] = {}

    @property
    def disabled_observers(self) -> tuple[PluginFailure, ...]:
        """The plugins whose observers raised."""
        return tuple(self._disabled_observers.values())

    def plug(self, source: Source, hooks: pluggy.PluginManager) -> tuple[str, ...]:
        """Add the observers of a plugin and return the names of their hooks."""
        watching = []
        for hook, observers in self._plugged.items():
            for implementation in getattr(hooks.hook, hook).get_hookimpls():
                observers.append(_Observer(source, implementation.function, tuple(implementation.argnames)))
                watching.append(hook)
        return tuple(watching)

    def unsubscribe(self, source: Source) -> None:
        """Remove the observers of a plugin."""
        for hook, observers in self._plugged.items():
            self._plugged[hook] = [observer for observer in observers if observer.source != source]

    def search_started(self, run: RunInfo) -> None:
        """Tell observers; see the hook."""
        self._notify("search_started", run=run)

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        """Tell observers; see the hook."""
        self._notify("step_finished", run=run, step=step)

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        """Tell observers; see the hook. Nothing is copied when nobody watches."""
        if self._plugged["trial_finished"]:
            from automl_nas.plugin.events import frozen_trial

            self._notify("trial_finished", run=run, trial=frozen_trial(trial))

    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        """Tell observers; see the hook."""
        self._notify("search_finished", run=run, result=result)

    def _notify(self, hook: str, **data: object) -> None:
        for observer in self._plugged[hook]:
            try:
                observer.function(*(data[name] for name in observer.arguments))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                fault = PluginFailure(observer.source, f"{hook}: {one_line(error)}", error)
                self.unsubscribe(observer.source)
                self._disabled_observers[observer.source] = fault
                if self.strict:
                    raise PluginError(str(fault)) from error
                _log.warning("%s does not watch this run any more: %s", observer.source, fault.error, exc_info=error)
