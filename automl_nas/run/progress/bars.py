"""Progress bars, for a run in a terminal."""

from __future__ import annotations

import math
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from automl_nas.plugin.events import (
    Handlers,
    MessageSent,
    NumbersLogged,
    ProgressMade,
    RunStarted,
    SessionEnded,
    StageFinished,
    StageStarted,
    StopRequested,
    TrialFinished,
)
from automl_nas.run.number_text import duration, exact
from automl_nas.run.progress.reporter import MEMORY, STOPPING, BestTrials, ProgressReporter, numbers_text

_INTERVAL = 0.1
"""Seconds between two updates of a bar: a search can record thousands of trials a second."""


class _Times(ProgressColumn):
    """The time that a stage has taken, and an estimate of the time left."""

    def render(self, task: Task) -> Text:
        """Return both as text."""
        spent = task.finished_time if task.finished else task.elapsed
        text = duration(int(spent or 0))
        if not task.finished and task.time_remaining is not None:
            text += f", {duration(int(task.time_remaining))} left"
        return Text(text)


class BarProgress(ProgressReporter):
    """Shows a bar for each stage, with the time left, the numbers logged last and the best trial.

    Args:
        console: the terminal; stderr by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            _Times(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console or Console(stderr=True),
            refresh_per_second=4,
            speed_estimate_period=MEMORY,
        )
        self._task: TaskID | None = None
        self._updated = -math.inf
        self._best = BestTrials()
        self._stage = ""

    @property
    def handlers(self) -> Handlers:
        """The handlers of events."""
        return {
            RunStarted: self._run_started,
            StageStarted: self._stage_started,
            ProgressMade: self._progress_made,
            NumbersLogged: self._numbers_logged,
            TrialFinished: self._trial_finished,
            StageFinished: self._stage_finished,
            MessageSent: self._message_sent,
            StopRequested: self._stop_requested,
            SessionEnded: self._session_ended,
        }

    def warning(self, text: str) -> None:
        """Show a line above the bars."""
        self._progress.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def _run_started(self, event: RunStarted) -> None:
        self._best.start(event.run)
        self._progress.start()

    def _stage_started(self, event: StageStarted) -> None:
        self._stage, self._updated = event.stage, -math.inf
        description = f"{event.position + 1}/{event.count} {event.stage}"
        self._task = self._progress.add_task(description, total=None, count="", note="")
        self._show_best()

    def _progress_made(self, event: ProgressMade) -> None:
        now = time.monotonic()
        done, total = event.done, event.total
        if self._task is None or (now - self._updated < _INTERVAL and done != total):
            return
        self._updated = now
        count = f"{exact(done)}/{exact(total)} {event.unit}" if total is not None else f"{exact(done)} {event.unit}"
        self._progress.update(self._task, completed=done, total=total, count=count)

    def _numbers_logged(self, event: NumbersLogged) -> None:
        """Show the first two numbers beside the bar, unless the best trial is shown there."""
        if self._task is not None and not self._best.text(self._stage):
            self._progress.update(self._task, note=numbers_text(event.values))

    def _trial_finished(self, event: TrialFinished) -> None:
        if self._best.add(event.trial):
            self._show_best()

    def _stage_finished(self, event: StageFinished) -> None:
        """Fill the bar."""
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=max(done, 1), completed=max(done, 1))
            self._progress.stop_task(self._task)

    def _message_sent(self, event: MessageSent) -> None:
        self._progress.console.print(event.text, markup=False, highlight=False)

    def _stop_requested(self, event: StopRequested) -> None:
        # The thread of the bars shows it: a signal handler must not wait for locks.
        if self._task is not None:
            self._progress.tasks[self._task].fields["note"] = STOPPING

    def _session_ended(self, event: SessionEnded) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def _show_best(self) -> None:
        note = self._best.text(self._stage)
        if note and self._task is not None:
            self._progress.update(self._task, note=note)
