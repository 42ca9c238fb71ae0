"""Who is told of a run: the plugins that watch every run, and the observers that its configuration names."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from automl_nas.errors import PluginError
from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo, frozen_trial
from automl_nas.plugin.failures import one_line
from automl_nas.plugin.hook_observers import Observers
from automl_nas.plugin.observer import Observer
from automl_nas.streams import stream_seed

if TYPE_CHECKING:
    from automl_nas.plugin.manager import PluginManager
    from automl_nas.run.configuration.plan import Plan
    from automl_nas.strategy.trial import Trial

_log = logging.getLogger(__name__)


class Watchers:
    """Tells plugins and observers alike; none of them can change or end a run.

    Args:
        plugins: those that watch every run.
        observers: place in the configuration -> observer.
        strict: an observer that raises is an error, instead of being logged and left out from then on.
    """

    def __init__(self, plugins: Observers, observers: Mapping[str, Observer], *, strict: bool = False) -> None:
        self._plugins, self._observers, self._strict = plugins, dict(observers), strict

    def check(self, run: RunInfo) -> None:
        """Ask observers whether they can do their work.

        Raises:
            UserError: one cannot.
        """
        for observer in self._observers.values():
            observer.check(run)

    def search_started(self, run: RunInfo) -> None:
        """Tell them; see the hook."""
        self._plugins.search_started(run)
        self._tell(lambda observer: observer.search_started(run))

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        """Tell them; see the hook."""
        self._plugins.step_finished(run, step)
        if self._observers:
            self._tell(lambda observer: observer.step_finished(run, step))

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        """Tell them; see the hook."""
        self._plugins.trial_finished(run, trial)
        if self._observers:
            given = frozen_trial(trial)
            self._tell(lambda observer: observer.trial_finished(run, given))

    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        """Tell them; see the hook."""
        self._plugins.search_finished(run, result)
        self._tell(lambda observer: observer.search_finished(run, result))

    def close(self) -> None:
        """Let observers go."""
        self._tell(lambda observer: observer.close())

    def _tell(self, call: Callable[[Observer], object]) -> None:
        for place, observer in list(self._observers.items()):
            try:
                call(observer)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                del self._observers[place]
                told = f"{place} ({type(observer).__name__}): {one_line(error)}"
                if self._strict:
                    raise PluginError(told) from error
                _log.warning("%s; it does not watch this run any more", told, exc_info=error)


def run_info(directory: Path, plan: Plan, *, resumed: bool) -> RunInfo:
    """Return what observers are told of a run."""
    objectives = {stage.settings.name: stage.problem.objectives for stage in plan.stages}
    return RunInfo(directory, config=plan.config, resumed=resumed, objectives=objectives)


def make_watchers(plan: Plan, manager: PluginManager) -> Watchers:
    """Return who is told of a run.

    Raises:
        ConfigurationError: an observer refuses its settings.
    """
    seed = stream_seed(plan.seed, "observers")
    observers = {
        (place := f"observers[{position}]"): plan.components.construct(
            "observers", spec, plan.collaborators(), seed, place
        )
        for position, spec in enumerate(plan.config["observers"])
    }
    return Watchers(manager.observers, observers, strict=manager.observers.strict)
