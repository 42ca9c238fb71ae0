"""How a comparison shows its progress on stderr."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, final

import click

from automl_nas.cli import duration

if TYPE_CHECKING:
    from rich.console import Console

STOPPING = "stopping; searches under way are given up"


class Shown(Protocol):
    """A way of showing progress, entered for the time of the work."""

    def __enter__(self) -> Shown: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, done: int, total: int) -> None:
        """Say how many searches are done."""

    def warning(self, text: str) -> None:
        """Say that something is wrong but survivable."""

    def stopping(self) -> None:
        """Say that the work is being stopped; called inside a signal handler."""


@final
class Quiet:
    """Warnings only."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def __call__(self, done: int, total: int) -> None:
        """Show nothing."""

    def warning(self, text: str) -> None:
        """Show a line."""
        click.echo(f"warning: {text}", err=True)

    def stopping(self) -> None:
        """Show nothing."""


@final
class Lines:
    """A line at the beginning, at each tenth of the work, and at the end."""

    def __init__(self) -> None:
        self._begun, self._first, self._tenth = time.monotonic(), -1, -1

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""

    def __call__(self, done: int, total: int) -> None:
        """Show a line now and then."""
        if self._first < 0:
            self._first, self._begun = done, time.monotonic()
        if (tenth := 10 * done // max(total, 1)) == self._tenth:
            return
        self._tenth = tenth
        spent = time.monotonic() - self._begun
        made = done - self._first
        left = f", {duration(int(spent / made * (total - done)))} left" if made and done < total else ""
        click.echo(f"{done:,}/{total:,} searches, {duration(spent)}{left}", err=True)

    def warning(self, text: str) -> None:
        """Show a line."""
        click.echo(f"warning: {text}", err=True)

    def stopping(self) -> None:
        """Say so, past all buffers."""
        os.write(2, f"\n{STOPPING}\n".encode())


@final
class Bar:
    """A progress bar with the time left.

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
            TimeRemainingColumn as Left,
        )

        columns: list[Any] = [TextColumn("searches"), BarColumn(bar_width=30), MofNCompleteColumn()]
        columns += [TimeElapsedColumn(), TextColumn("left"), Left(), TextColumn("{task.fields[note]}", style="dim")]
        # A long memory: a search of one strategy may take a hundred times as long as that of another.
        self._progress = Progress(*columns, console=console or Terminal(stderr=True), speed_estimate_period=600)
        self._task = self._progress.add_task("", total=None, note="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the bar as it is."""
        self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Move the bar; what was done before does not count as speed."""
        if self._progress.tasks[0].total is None:
            self._progress.reset(self._task, total=total, completed=done)
        self._progress.update(self._task, completed=done)

    def warning(self, text: str) -> None:
        """Show a line above the bar."""
        self._progress.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False)

    def stopping(self) -> None:
        """Say so beside the bar: a signal handler must not wait for locks."""
        self._progress.tasks[0].fields["note"] = STOPPING


def shown(quiet: bool) -> Shown:
    """Return the way that suits stderr."""
    if quiet:
        return Quiet()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return Bar()
    return Lines()
