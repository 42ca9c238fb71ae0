"""Progress bars, for a run in a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from automl_nas.cli.progress import STOPPING, Shown
from automl_nas.cli.text import duration, exact, human
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial

_EVERY = 0.1
"""Seconds between two changes of a bar: a search can record thousands of trials a second."""

_MEMORY = 600.0
"""Seconds over which the speed is averaged: a step may take a minute, and the time left needs several of them."""


class _Times(ProgressColumn):
    """The time a stage has taken, and the time it will still take as far as that is known."""

    def render(self, task: Task) -> Text:
        """Return both as text."""
        spent = task.finished_time if task.finished else task.elapsed
        text = duration(int(spent or 0))
        if not task.finished and task.time_remaining is not None:
            text += f", {duration(int(task.time_remaining))} left"
        return Text(text)


class Bars(Shown):
    """A bar for each stage, with the time left, the numbers logged last and the best trial.

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
            speed_estimate_period=_MEMORY,
        )
        self._task: TaskID | None = None
        self._changed = -math.inf
        self._problems: Mapping[str, Problem] = {}
        self._best: dict[str, Trial] = {}
        self._stage = ""

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def expect(self, problems: Mapping[str, Problem], trials: Iterable[Trial]) -> None:
        """Get to know what the best trial is."""
        self._problems = problems
        recorded = list(trials)
        for stage, problem in problems.items():
            best = problem.best(trial for trial in recorded if trial.stage == stage)
            if best is not None:
                self._best[stage] = best

    def stage_started(self, name: str, position: int, count: int) -> None:
        """Add a bar."""
        self._stage, self._changed = name, -math.inf
        self._task = self._progress.add_task(f"{position + 1}/{count} {name}", total=None, count="", note="")
        self._show_best()

    def stage_finished(self, name: str) -> None:
        """Fill the bar."""
        if self._task is not None:
            done = self._progress.tasks[self._task].completed
            self._progress.update(self._task, total=max(done, 1), completed=max(done, 1))
            self._progress.stop_task(self._task)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Move the bar."""
        now = time.monotonic()
        if self._task is None or (now - self._changed < _EVERY and done != total):
            return
        self._changed = now
        count = f"{exact(done)}/{exact(total)} {unit}" if total is not None else f"{exact(done)} {unit}"
        self._progress.update(self._task, completed=done, total=total, count=count)

    def logged(self, values: Mapping[str, float], step: int) -> None:
        """Show the first two numbers beside the bar."""
        if self._task is not None and self._stage not in self._best:
            note = "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:2])
            self._progress.update(self._task, note=note)

    def trial(self, trial: Trial) -> None:
        """Show the best trial beside the bar."""
        problem = self._problems.get(trial.stage)
        if problem is None:
            return
        known = self._best.get(trial.stage)
        best = problem.best([trial] if known is None else [known, trial])
        if best is not None and best is not known:
            self._best[trial.stage] = best
            self._show_best()

    def message(self, text: str) -> None:
        """Show a line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)

    def warning(self, text: str) -> None:
        """Show a line above the bars."""
        self._progress.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def stopping(self) -> None:
        """Write it where the bars' own thread shows it: a signal handler must not wait for locks."""
        if self._task is not None:
            self._progress.tasks[self._task].fields["note"] = STOPPING

    def _show_best(self) -> None:
        best = self._best.get(self._stage)
        if best is not None and self._task is not None:
            values = best.values
            shown = [
                f"{name} {human(values[name])}" for name in self._problems[self._stage].objectives if name in values
            ]
            self._progress.update(self._task, note=f"best: {', '.join(shown)} (trial {best.number})")
