"""Observers that are configured: components of the section ``observers``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
    from automl_nas.strategy.trial import Trial


class Observer(ABC):
    """Observes a run, with settings of its own. It receives frozen data and cannot change the run.

    It receives the same events as the hooks of the same names; hooks observe every run and have no settings. If a
    method raises, the error is logged and the observer is not called again in this process. Settings are keyword-only
    in the constructor; the collaborators it may ask for are the space, the task and the runtime.
    """

    # Empty methods are the defaults on purpose: an observer overrides those it needs.

    def check(self, run: RunInfo) -> None:  # noqa: B027
        """Check that it will be able to work. Called before a new run is created, and not when a run is resumed.

        Args:
            run: the new run; its directory does not exist yet.

        Raises:
            UserError: it cannot work; the message gives the reason.
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
        """Release resources: this process stops working on the run, also after a failure or an interruption.

        Every finished trial is recorded by then.
        """
