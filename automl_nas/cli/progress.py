"""How a run shows its progress: bars where stderr is a terminal, a line at each end of a stage elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

import click

from automl_nas.cli.text import duration, exact
from automl_nas.run.reporter import Reporter

if TYPE_CHECKING:
    from automl_nas.strategy.problem import Problem
    from automl_nas.strategy.trial import Trial

STOPPING = "stopping at the next safe point; Ctrl-C again stops at once"


class Shown(Reporter):
    """What all ways of showing progress have in common: warnings on stderr, nothing else.

    It is entered for the time of a run. Its subclasses show more.
    """

    def __enter__(self) -> Shown:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: nothing is shown any more."""

    def expect(self, problems: Mapping[str, Problem], trials: Iterable[Trial]) -> None:
        """Get to know what is wanted in each stage, and the trials that are recorded already."""

    def message(self, text: str) -> None:
        """Show nothing."""

    def warning(self, text: str) -> None:
        """Show a line."""
        click.echo(f"warning: {text}", err=True)


class Lines(Shown):
    """A line at the beginning and the end of each stage."""

    def __init__(self) -> None:
        self._begun, self._stage, self._count = 0.0, "", ""

    def stage_started(self, name: str, position: int, count: int) -> None:
        """Say that a stage begins."""
        self._begun, self._stage, self._count = time.monotonic(), f"stage {position + 1}/{count} {name}", ""
        click.echo(f"{self._stage}: started", err=True)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Remember how far the stage is."""
        self._count = f"{exact(done)} {unit}, "

    def stage_finished(self, name: str) -> None:
        """Say that it is over."""
        click.echo(f"{self._stage}: done ({self._count}{duration(time.monotonic() - self._begun)})", err=True)

    def message(self, text: str) -> None:
        """Show a line."""
        click.echo(text, err=True)

    def stopping(self) -> None:
        """Say so, past all buffers, since this is a signal handler."""
        os.write(2, f"\n{STOPPING}\n".encode())


def shown(quiet: bool) -> Shown:
    """Return the way that suits stderr."""
    if quiet:
        return Shown()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from automl_nas.cli.bars import Bars

        return Bars()
    return Lines()
