"""Reports of runs as HTML files, comparisons of runs, and observers that write CSV files and TensorBoard's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def register_observers(register: Register) -> None:
    """Register ``csv`` and ``tensorboard``."""
    register(
        "csv",
        "automl_nas_report.csv_observer:CSVObserver",
        summary="writes the trials and the logged numbers as CSV files",
    )
    register(
        "tensorboard",
        "automl_nas_report.tensorboard_observer:TensorBoardObserver",
        summary="writes the trials and the logged numbers for TensorBoard",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add ``automl-nas report`` and ``automl-nas compare``."""
    from automl_nas_report.commands import compare, report

    cli.add_command(report)
    cli.add_command(compare)
