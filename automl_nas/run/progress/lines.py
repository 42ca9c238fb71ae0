"""Progress as lines, for notebooks, CI, cron and files."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from automl_nas.run.number_text import duration, exact
from automl_nas.run.progress.reporter import (
    MEMORY,
    STOPPING,
    BestTrials,
    ProgressReporter,
    numbers_text,
    print_line,
)

if TYPE_CHECKING:
    from automl_nas.plugin.events import (
        Handlers,
        MessageSent,
        NumbersLogged,
        ProgressMade,
        RunStarted,
        StageFinished,
        StageStarted,
        StopRequested,
        TrialFinished,
    )

SHORTEST, LONGEST = 5.0, 300.0
"""Seconds between two lines within a stage: at the beginning, and at most. In between it is a 60th of the duration of
the stage, so that a stage of days does not fill a log with lines."""


class LineProgress(ProgressReporter):
    """Shows a line at the start and at the end of each stage, and every few seconds one with the time left.

    Args:
        show: prints one line; by default on stderr.
        messages: whether messages of the run are shown too.
    """

    def __init__(self, show: Callable[[str], object] = print_line, *, messages: bool = True) -> None:
        self._show, self._messages = show, messages
        self._best = BestTrials()
        self._stage, self._title, self._count, self._note = "", "", "", ""
        self._begun = self._shown = 0.0
        self._unit, self._samples = "", deque[tuple[float, float]]()

    @property
    def handlers(self) -> Handlers:
        """The handlers of events."""
        from automl_nas.plugin import events

        handlers: dict[type[events.Event], Callable[..., object]] = {
            events.RunStarted: self._run_started,
            events.StageStarted: self._stage_started,
            events.ProgressMade: self._progress_made,
            events.NumbersLogged: self._numbers_logged,
            events.TrialFinished: self._trial_finished,
            events.StageFinished: self._stage_finished,
            events.StopRequested: self._stop_requested,
        }
        return handlers | ({events.MessageSent: self._message_sent} if self._messages else {})

    def warning(self, text: str) -> None:
        """Show a line."""
        self._show(f"warning: {text}")

    def _run_started(self, event: RunStarted) -> None:
        self._best.start(event.run)

    def _stage_started(self, event: StageStarted) -> None:
        self._begun = self._shown = time.monotonic()
        self._count, self._note, self._unit = "", "", ""
        self._stage, self._title = event.stage, f"stage {event.position + 1}/{event.count} {event.stage}"
        self._show(f"{self._title}: started")

    def _progress_made(self, event: ProgressMade) -> None:
        now = time.monotonic()
        self._count = f"{exact(event.done)} {event.unit}"
        if event.unit != self._unit:
            self._unit = event.unit
            self._samples.clear()
        if not self._samples:
            self._samples.append((now, event.done))
        if now - self._shown < min(LONGEST, max(SHORTEST, (now - self._begun) / 60)):
            return
        self._shown = now
        count = self._count if event.total is None else f"{exact(event.done)}/{exact(event.total)} {event.unit}"
        parts = [f"{self._title}: {count}", duration(int(now - self._begun))]
        if left := self._time_left(now, event):
            parts.append(left)
        if note := self._best.text(self._stage) or self._note:
            parts.append(note)
        self._show(", ".join(parts))

    def _time_left(self, now: float, event: ProgressMade) -> str:
        """Return the time left in words; empty if it cannot be estimated. The speed is that of the last minutes."""
        while len(self._samples) > 1 and self._samples[1][0] < now - MEMORY:
            self._samples.popleft()
        since, done_then = self._samples[0]
        self._samples.append((now, event.done))
        if event.total is None or event.done <= done_then or now <= since:
            return ""
        return f"{duration(int((event.total - event.done) * (now - since) / (event.done - done_then)))} left"

    def _numbers_logged(self, event: NumbersLogged) -> None:
        self._note = numbers_text(event.values)

    def _trial_finished(self, event: TrialFinished) -> None:
        self._best.add(event.trial)

    def _stage_finished(self, event: StageFinished) -> None:
        count = f"{self._count}, " if self._count else ""
        self._show(f"{self._title}: done ({count}{duration(time.monotonic() - self._begun)})")

    def _message_sent(self, event: MessageSent) -> None:
        self._show(event.text)

    def _stop_requested(self, event: StopRequested) -> None:
        os.write(2, f"\n{STOPPING}\n".encode())  # without buffers: this is a signal handler
