"""Observers that are configured: components of the section ``observers``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
    from automl_nas.strategy.trial import Trial


class Observer(ABC):
    """Watches a run, with settings of its own. It is given frozen data and cannot change the run.

    It is told what the hooks of the same names are told, which watch every run and have no settings. One that raises
    is logged and not called again in this process. Settings are keyword-only in the constructor; of collaborators there
    are the space, the task and the runtime.
    """

    # Empty methods are the defaults on purpose: an observer overrides what it is interested in.

    def check(self, run: RunInfo) -> None:  # noqa: B027
        """Find out whether it can do its work: called before a new run is made, and not when one is resumed.

        Args:
            run: which it will be; its directory is not there yet.

        Raises:
            UserError: it cannot, and why.
        """

    @abstractmethod
    def search_started(self, run: RunInfo) -> None:
        """See the hook."""

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:  # noqa: B027
        """See the hook."""

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:  # noqa: B027
        """See the hook."""

    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:  # noqa: B027
        """See the hook."""

    def close(self) -> None:  # noqa: B027
        """Let go: the process's work on the run is over, however it ended. Every trial is in the record by now."""
