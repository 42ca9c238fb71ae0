"""What every way of showing progress has: `ProgressReporter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers

STOPPING = "stopping at the next safe point; Ctrl-C again stops at once"


class ProgressReporter:
    """Shows warnings, a line each, and no progress. Its subclasses show more."""

    @property
    def handlers(self) -> Handlers:
        """The handlers of events, for `automl_nas.run.Session`."""
        return {}

    def warning(self, text: str) -> None:
        """Show a line. Warnings arrive through the log, see `automl_nas.cli.Logs`."""
        click.echo(f"warning: {text}", err=True)
