"""``automl-nas mirror`` and ``automl-nas worker``; what commands need is imported inside of them."""

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


@click.command(short_help="Join a run as a worker, from any machine.")
@click.argument("storage")
@click.option("--study", help="The queue (default: the one that a run has opened): <run>/queue.")
@click.option(
    "--idle", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Leave after so many idle seconds."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where the run directory is on this machine (default: where it is for the run).",
)
@debug_option
def worker(storage: str, study: str | None, idle: float, directory: Path | None) -> None:
    """Evaluate what a run puts into the Optuna STORAGE, one candidate at a time.

    The run is started with executor: {name: optuna, storage: STORAGE}. Any number of workers may join and leave at any
    time; Ctrl-C gives back what is being evaluated. A run that inherits weights, or has data of its own, needs its run
    directory to be visible from here.
    """
    from automl_nas.cli.logs import quiet_libraries
    from automl_nas_optuna.worker import Worker

    made = Worker(storage, study, idle=idle, directory=directory)
    with quiet_libraries():
        made.run()
    click.echo(f"{made.evaluated} evaluations")
