"""The commands ``automl-nas mirror``, ``worker`` and ``study``. Each imports what it needs when it is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from automl_nas_optuna.tuning.tuning import Tuning


@click.command(short_help="Copy a run's trials into an Optuna storage.")
@click.argument("directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("storage")
@click.option("--study", help="The first part of the studies' names (default: the name of the run directory).")
@debug_option
def mirror(directory: Path, storage: str, study: str | None) -> None:
    """Copy the finished trials of the run directory RUN into an Optuna STORAGE, each of them once.

    STORAGE is a URL (sqlite:///trials.db, postgresql://..., grpc://host:port) or the path of a journal file. Trials
    that the storage already contains are not changed, so the command may be repeated.
    """
    from automl_nas_optuna.mirror.mirror_once import mirror_once

    copied, names = mirror_once(directory, storage, study)
    click.echo(f"{copied} trials copied; studies: {', '.join(names)}")


@click.command(short_help="Join a run as a worker, from any machine.")
@click.argument("storage")
@click.option("--study", help="The name of the queue, <run>/queue (default: the one that is open).")
@click.option(
    "--idle",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds without an evaluation after which the worker ends.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait at the start for a storage that is down and for a run that has not begun.",
)
@click.option(
    "--device",
    help="cpu, cuda, cuda:1, ... (default: what the run's configuration requires, or else the machine's GPU).",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads of torch (default: what the run's configuration requires, or else torch's default).",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="The path of the run directory on this machine (default: the same path as on the run's machine).",
)
@debug_option
def worker(
    storage: str,
    study: str | None,
    idle: float,
    wait: float,
    device: str | None,
    threads: int | None,
    directory: Path | None,
) -> None:
    """Evaluate the candidates that a run puts into the Optuna STORAGE, one at a time.

    Start the run with executor: {name: optuna, storage: STORAGE}. Any number of workers may join and leave at any time;
    after Ctrl-C, another worker repeats the current evaluation. If the run inherits weights or has data of its own, the
    worker must have access to the run directory.
    """
    from automl_nas.cli import quiet_libraries
    from automl_nas.run import WorkerRuntime
    from automl_nas_optuna.workers.worker import Worker

    evaluator = Worker(
        storage,
        study,
        idle=idle,
        wait=wait,
        runtime=WorkerRuntime(device, threads),
        directory=directory,
        say=click.echo,
    )
    with quiet_libraries():
        evaluator.run()
    click.echo(f"{evaluator.evaluated} evaluations")


@click.command(short_help="Show who evaluates what for runs on other machines.")
@click.argument("storage")
@click.option("--study", help="The name of one queue, <run>/queue (default: all that are open).")
@json_option
@debug_option
def workers(storage: str, study: str | None, as_json: bool) -> None:
    """Show the workers of the runs that use the Optuna STORAGE: who evaluates which trial since when, rates and deaths.

    A worker is silent if its last sign of life is older than the executor's grace. Times compare the clocks of two
    machines. The queue of a run that is not running is shown if --study names it.
    """
    from automl_nas_optuna.workers.status import queue_statuses, status_lines

    statuses = queue_statuses(storage, study)
    if as_json:
        click.echo(json.dumps([asdict(status) for status in statuses], indent=2))
        return
    for status in statuses:
        for line in status_lines(status):
            click.echo(line)


def _study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--out", type=click.Path(path_type=Path), help="The study's directory (default: runs/<name of FILE>)."
    )(command)
    return debug_option(click.argument("file", type=click.Path(path_type=Path))(command))


@click.group(short_help="Tune the settings of searches.")
def study() -> None:
    """Tune the settings of searches: each trial of a study is a run with its own run directory."""


@study.command(name="run", short_help="Run or continue a study.")
@_study_options
def run_study(file: Path, out: Path | None) -> None:
    """Run the study described in the YAML file FILE. The same command continues an interrupted study."""
    from automl_nas.cli import quiet_libraries

    with quiet_libraries():
        tuning = _tuning(file, out)
        try:
            tuning.run(lambda trial: click.echo(_line(trial, tuning)))
            if tuning.exhausted:
                click.echo("the sampler has proposed all settings")
            _print_best(tuning)
        finally:
            tuning.close()


@study.command(short_help="List the trials of a study.")
@_study_options
@json_option
def show(file: Path, out: Path | None, as_json: bool) -> None:
    """List the trials of the study described in FILE."""
    tuning = _tuning(file, out)
    trials = tuning.study.trials
    if as_json:
        click.echo(json.dumps([_as_json(trial) for trial in trials], indent=2))
    else:
        for trial in trials:
            click.echo(_line(trial, tuning))
    tuning.close()


@study.command(short_help="Print the best settings of a study.")
@_study_options
@json_option
def best(file: Path, out: Path | None, as_json: bool) -> None:
    """Print the best settings of the study described in FILE, as options of automl-nas run."""
    tuning = _tuning(file, out)
    if as_json:
        click.echo(json.dumps([_as_json(trial) for trial in tuning.best()], indent=2))
    else:
        _print_best(tuning)
    tuning.close()


def _tuning(file: Path, out: Path | None) -> Tuning:
    from automl_nas_optuna.tuning.study_file import StudyFile
    from automl_nas_optuna.tuning.tuning import Tuning

    return Tuning(StudyFile(file), out or Path("runs") / file.stem)


def _print_best(tuning: Tuning) -> None:
    best_trials = tuning.best()
    if not best_trials:
        click.echo("no trial is complete yet")
    for trial in best_trials:
        click.echo(f"best: {_line(trial, tuning)}")
        for name, value in trial.user_attrs["settings"].items():
            click.echo(f"  --set '{name}={json.dumps(value)}'")


def _line(trial: FrozenTrial, tuning: Tuning) -> str:
    values = trial.values or []
    objectives = ", ".join(f"{name} {value:.6g}" for name, value in zip(tuning.objectives, values, strict=False))
    settings = ", ".join(f"{name}={json.dumps(v)}" for name, v in trial.user_attrs.get("settings", {}).items())
    error = trial.user_attrs.get("error", "")
    return f"{trial.number:4d}  {objectives or trial.state.name.lower()}  {settings}" + (
        f"  ({error})" if error else ""
    )


def _as_json(trial: FrozenTrial) -> dict[str, Any]:
    return {"number": trial.number, "state": trial.state.name.lower(), "values": trial.values, **trial.user_attrs}
