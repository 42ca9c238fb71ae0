"""How a run shows its progress on stderr: bars on a terminal, elsewhere a line at the start and end of each stage."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from automl_nas.cli.progress_base import STOPPING, ProgressReporter
from automl_nas.cli.text import duration, exact

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers, MessageSent, ProgressMade, StageFinished, StageStarted, StopRequested


class PlainProgress(ProgressReporter):
    """Shows a line at the start and at the end of each stage."""

    def __init__(self) -> None:
        self._begun, self._stage, self._count = 0.0, "", ""

    @property
    def handlers(self) -> Handlers:
        """The handlers of events."""
        from automl_nas.plugin import events

        return {
            events.StageStarted: self._stage_started,
            events.ProgressMade: self._progress_made,
            events.StageFinished: self._stage_finished,
            events.MessageSent: self._message_sent,
            events.StopRequested: self._stop_requested,
        }

    def _stage_started(self, event: StageStarted) -> None:
        self._begun, self._count = time.monotonic(), ""
        self._stage = f"stage {event.position + 1}/{event.count} {event.stage}"
        click.echo(f"{self._stage}: started", err=True)

    def _progress_made(self, event: ProgressMade) -> None:
        self._count = f"{exact(event.done)} {event.unit}, "

    def _stage_finished(self, event: StageFinished) -> None:
        click.echo(f"{self._stage}: done ({self._count}{duration(time.monotonic() - self._begun)})", err=True)

    def _message_sent(self, event: MessageSent) -> None:
        click.echo(event.text, err=True)

    def _stop_requested(self, event: StopRequested) -> None:
        os.write(2, f"\n{STOPPING}\n".encode())  # without buffers: this is a signal handler


def progress_reporter(quiet: bool) -> ProgressReporter:
    """Return the reporter that suits stderr.

    Args:
        quiet: show only warnings.
    """
    if quiet:
        return ProgressReporter()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from automl_nas.cli.bars import BarProgress

        return BarProgress()
    return PlainProgress()
