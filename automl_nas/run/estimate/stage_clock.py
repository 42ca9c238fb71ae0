"""The speed of each stage of a run, from its events."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from automl_nas.plugin.events import Handlers, NumbersLogged, ProgressMade, StageFinished, StageStarted

LEAST_REPORTS = 3
"""The number of reports of progress from which a speed is known: the first one includes the warm-up."""

TRIALS = "trials"
"""The unit of a stage whose work is trials; what is counted before, in another unit, is its preparation."""

MOST_TIMES = 5.0
"""How many times as long as it should a stage may take for `LEAST_REPORTS`."""


@dataclass
class StageTimes:
    """When a stage was how far.

    Attributes:
        name: of the stage.
        seconds: its duration.
        marks: time, amount of work done, and number of the network that is in training (0 outside the final stage).
        total: the whole amount of work; None if it is unknown.
        unit: of the amounts; empty if the stage reported none.
    """

    name: str
    seconds: float = 0.0
    marks: list[tuple[float, float, int]] = field(default_factory=list)
    total: float | None = None
    unit: str = ""

    @property
    def done(self) -> float:
        """The amount of work done."""
        return self.marks[-1][1] if self.marks else 0.0

    @property
    def pace(self) -> float | None:
        """Seconds per unit; None if the stage reported no progress.

        The work before the first mark of each network is left out if there is more than one mark: it includes the
        construction and the warm-up. Networks count alike, because all are trained equally long.
        """
        paces = []
        for network in dict.fromkeys(mark[2] for mark in self.marks):
            marks = [mark for mark in self.marks if mark[2] == network]
            work = marks[-1][1] - marks[0][1]
            if work > 0:
                paces.append((marks[-1][0] - marks[0][0]) / work)
        if paces:
            return sum(paces) / len(paces)
        return self.seconds / self.done if self.done else None


class StageClock:
    """Records `StageTimes` of each stage from events.

    Attributes:
        stages: the stages in the order in which they began.
    """

    def __init__(self) -> None:
        self.stages: list[StageTimes] = []
        self._begun, self._network, self._running = 0.0, 0, False

    def stop(self) -> None:
        """End the present stage: what follows does not belong to it."""
        if self._running:
            self.stages[-1].seconds = time.perf_counter() - self._begun
        self._running = False

    def count_trial(self, seconds: float) -> None:
        """Count the preparation of the present stage, which ended in it, as a whole, and a trial as the stage's work.

        Args:
            seconds: of the trial.
        """
        stage = self.stages[-1]
        left = max(0.0, (stage.total or 0.0) - stage.done) * (stage.pace or 0.0)
        stage.seconds += left + seconds
        stage.marks, stage.total, stage.unit = [(0.0, 0.0, 0), (seconds, 1.0, 0)], None, TRIALS

    def suffices(self, share: float) -> bool:
        """Return whether the speed of the present stage is known, or it has taken too long to wait for that.

        Args:
            share: of the time for which the stage is measured that has passed.
        """
        return len(self.stages[-1].marks) >= LEAST_REPORTS or share >= MOST_TIMES

    @property
    def handlers(self) -> Handlers:
        """The handlers of events."""
        return {
            StageStarted: self._stage_started,
            NumbersLogged: self._numbers_logged,
            ProgressMade: self._progress_made,
            StageFinished: self._stage_finished,
        }

    def _stage_started(self, event: StageStarted) -> None:
        self.stages.append(StageTimes(event.stage))
        self._begun, self._network, self._running = time.perf_counter(), 0, True

    def _numbers_logged(self, event: NumbersLogged) -> None:
        if self.stages[-1].name == "final":
            self._network = int(event.values.get("network", 0))

    def _progress_made(self, event: ProgressMade) -> None:
        if not self._running:
            return
        stage = self.stages[-1]
        if event.unit == TRIALS != stage.unit:
            stage.marks.clear()  # they are of the preparation
        stage.total, stage.unit = event.total, event.unit
        if event.done > stage.done:
            stage.marks.append((time.perf_counter(), event.done, self._network))

    def _stage_finished(self, event: StageFinished) -> None:
        self.stop()
