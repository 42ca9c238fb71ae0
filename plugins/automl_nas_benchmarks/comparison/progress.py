"""Shows the progress of a comparison on stderr: a bar on a terminal, elsewhere a line at each tenth of the searches."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

import click

from automl_nas.run import ProgressReporter, duration

if TYPE_CHECKING:
    from rich.console import Console

STOPPING = "stopping; searches under way are given up"


class ComparisonProgress(ProgressReporter):
    """Shows warnings only. Its subclasses also show the number of finished searches, between entering and leaving."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the display."""

    def __call__(self, done: int, total: int) -> None:
        """Show the number of finished searches."""

    def stopping(self) -> None:
        """Show that the comparison is being stopped; called inside a signal handler."""


@final
class PlainComparisonProgress(ComparisonProgress):
    """Shows a line at the beginning, at each tenth of the searches, and at the end."""

    def __init__(self) -> None:
        self._begun, self._recorded, self._tenth = time.monotonic(), -1, -1

    def __call__(self, done: int, total: int) -> None:
        """Show a line if another tenth of the searches has finished."""
        if self._recorded < 0:
            self._recorded, self._begun = done, time.monotonic()
        if (tenth := 10 * done // max(total, 1)) == self._tenth:
            return
        self._tenth = tenth
        seconds = time.monotonic() - self._begun
        searches = done - self._recorded
        left = f", {duration(int(seconds / searches * (total - done)))} left" if searches and done < total else ""
        click.echo(f"{done:,}/{total:,} searches, {duration(seconds)}{left}", err=True)

    def stopping(self) -> None:
        """Show a line, without buffers: this is called inside a signal handler."""
        os.write(2, f"\n{STOPPING}\n".encode())


@final
class BarComparisonProgress(ComparisonProgress):
    """Shows a progress bar with the time left.

    Args:
        console: the terminal; stderr by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns: list[Any] = [TextColumn("searches"), BarColumn(bar_width=30), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
        columns.append(TextColumn("{task.fields[note]}", style="dim"))
        # A long period: a search of one strategy may take a hundred times as long as that of another.
        self._progress = Progress(*columns, console=console or Terminal(stderr=True), speed_estimate_period=600)
        self._task = self._progress.add_task("", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop updating the bar; it remains on the terminal."""
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Update the bar; searches of earlier calls do not count for the speed."""
        if self._progress.tasks[0].total is None:
            self._progress.reset(self._task, total=total, completed=done)
        self._progress.update(self._task, completed=done)

    def warning(self, text: str) -> None:
        """Show a line above the bar."""
        self._progress.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def stopping(self) -> None:
        """Show a note beside the bar; the thread of the bar prints it, as a signal handler must not wait for locks."""
        self._progress.tasks[0].fields["note"] = STOPPING


def comparison_progress(quiet: bool) -> ComparisonProgress:
    """Return the progress reporter that suits stderr.

    Args:
        quiet: show only warnings.
    """
    if quiet:
        return ComparisonProgress()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return BarComparisonProgress()
    return PlainComparisonProgress()
