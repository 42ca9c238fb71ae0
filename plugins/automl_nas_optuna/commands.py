"""``automl-nas mirror``, ``worker`` and ``study``; what commands need is imported inside of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl_nas_optuna.tuning import Tuning


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
    from automl_nas_optuna.mirror_once import catch_up

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
    from automl_nas.cli import quiet_libraries
    from automl_nas_optuna.worker import Worker

    made = Worker(storage, study, idle=idle, directory=directory)
    with quiet_libraries():
        made.run()
    click.echo(f"{made.evaluated} evaluations")


def _study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--out", type=click.Path(path_type=Path), help="The study's directory (default: runs/<name of FILE>)."
    )(command)
    return debug_option(click.argument("file", type=click.Path(path_type=Path))(command))


@click.group(short_help="Tune the settings of searches.")
def study() -> None:
    """Tune the settings of searches: each trial of a study is a run, with its own run directory."""


@study.command(name="run", short_help="Run a study, or what is left of it.")
@_study_options
def run_study(file: Path, out: Path | None) -> None:
    """Run the study that the YAML FILE describes. The same command continues a study that was interrupted."""
    from automl_nas.cli import quiet_libraries

    with quiet_libraries():
        tuning = _tuning(file, out)
        try:
            tuning.run(lambda trial: click.echo(_line(trial, tuning)))
            _tell_best(tuning)
        finally:
            tuning.close()


@study.command(short_help="List the trials of a study.")
@_study_options
@json_option
def show(file: Path, out: Path | None, as_json: bool) -> None:
    """List the trials of the study that FILE describes."""
    tuning = _tuning(file, out)
    trials = tuning.study.trials
    if as_json:
        click.echo(json.dumps([_plain(trial) for trial in trials], indent=2))
    else:
        for trial in trials:
            click.echo(_line(trial, tuning))
    tuning.close()


@study.command(short_help="Print the best settings of a study.")
@_study_options
@json_option
def best(file: Path, out: Path | None, as_json: bool) -> None:
    """Print the best settings that the study of FILE has found, as options for automl-nas run."""
    tuning = _tuning(file, out)
    if as_json:
        click.echo(json.dumps([_plain(trial) for trial in tuning.best()], indent=2))
    else:
        _tell_best(tuning)
    tuning.close()


def _tuning(file: Path, out: Path | None) -> Tuning:
    from automl_nas_optuna.tuning import Tuning
    from automl_nas_optuna.tuning_settings import StudyFile

    return Tuning(StudyFile(file), out or Path("runs") / file.stem)


def _tell_best(tuning: Tuning) -> None:
    found = tuning.best()
    if not found:
        click.echo("no trial is complete yet")
    for trial in found:
        click.echo(f"best: {_line(trial, tuning)}")
        for name, value in trial.user_attrs["settings"].items():
            click.echo(f"  --set '{name}={json.dumps(value)}'")


def _line(trial: FrozenTrial, tuning: Tuning) -> str:
    values = trial.values or []
    told = ", ".join(f"{name} {value:.6g}" for name, value in zip(tuning.objectives, values, strict=False))
    settings = ", ".join(f"{name}={json.dumps(v)}" for name, v in trial.user_attrs.get("settings", {}).items())
    error = trial.user_attrs.get("error", "")
    return f"{trial.number:4d}  {told or trial.state.name.lower()}  {settings}" + (f"  ({error})" if error else "")


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    return {"number": trial.number, "state": trial.state.name.lower(), "values": trial.values, **trial.user_attrs}
