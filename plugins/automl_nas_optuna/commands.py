"""``automl-nas mirror``; what commands need is imported inside of them."""

from __future__ import annotations

from pathlib import Path

import click

from automl_nas.cli.common import debug_option


@click.command(short_help="Copy a run's trials into an Optuna storage.")
@click.argument("directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("storage")
@click.option("--study", help="The first part of the studies' names (default: the name of the run directory).")
@debug_option
def mirror(directory: Path, storage: str, study: str | None) -> None:
    """Copy the finished trials of the run directory RUN into an Optuna STORAGE, each once.

    STORAGE is a URL (sqlite:///trials.db, postgresql://..., grpc://host:port) or the path of a journal file. What is
    there already is left as it is, so the command may be repeated.
    """
    from automl_nas_optuna.catching_up import catch_up

    copied, names = catch_up(directory, storage, study)
    click.echo(f"{copied} trials copied; studies: {', '.join(names)}")
