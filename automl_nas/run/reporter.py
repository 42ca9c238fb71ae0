"""Who is told how a run goes: the command line's progress bars, a notebook, or nobody."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from automl_nas.strategy.trial import Trial

_log = logging.getLogger("automl_nas")


class Reporter:
    """Told what happens; all methods do nothing by default but for warnings, which are logged."""

    def stage_started(self, name: str, position: int, count: int) -> None:
        """A stage begins: the ``position``-th (from 0) of ``count``."""

    def stage_finished(self, name: str) -> None:
        """A stage is over."""

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """How far the present stage is."""

    def logged(self, values: Mapping[str, float], step: int) -> None:
        """A strategy logged numbers."""

    def trial(self, trial: Trial) -> None:
        """A trial is recorded."""

    def message(self, text: str) -> None:
        """Something worth knowing happened."""
        _log.info("%s", text)

    def stopping(self) -> None:
        """Somebody asked the run to stop; it will at the next safe point. Called inside a signal handler: be brief."""

    def warning(self, text: str) -> None:
        """Something is wrong but mended or survivable."""
        _log.warning("%s", text)
