"""``automl-nas run`` and ``automl-nas resume``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import CommandT, debug_option, trust_option, working_plugins
from automl_nas.cli.logs import Logs, quiet_libraries
from automl_nas.cli.overrides import Configuration, Override
from automl_nas.cli.summary import summary
from automl_nas.errors import ConfigurationError, RanksEndedError, RunDirectoryError, RunFailedError, UserError
from automl_nas.evaluation.ranks import join_ranks
from automl_nas.run.number_text import duration
from automl_nas.run.progress.choice import progress_reporter
from automl_nas.run.progress.reporter import print_line

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers
    from automl_nas.run.session import Session


RUNS = Path("runs")
"""The folder of runs without --out."""


def quiet_option(command: CommandT) -> CommandT:
    """Add ``--quiet`` to a command."""
    return click.option("-q", "--quiet", is_flag=True, help="No progress on stderr, only warnings and errors.")(command)


def workers_option(command: CommandT) -> CommandT:
    """Add ``--workers`` to a command."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Number of worker processes that evaluate candidates. It does not change the result.",
    )(command)


def changed_data_option(command: CommandT) -> CommandT:
    """Add ``--changed-data`` to a command."""
    return click.option(
        "--changed-data",
        is_flag=True,
        help="Continue though the data changed since the run began; trials of both data are ranked together.",
    )(command)


def changed_ranks_option(command: CommandT) -> CommandT:
    """Add ``--changed-ranks`` to a command."""
    return click.option(
        "--changed-ranks",
        is_flag=True,
        help="Continue with another number of processes of torchrun, though the trained weights depend on it.",
    )(command)


@click.command(short_help="Search, train, test and export what a configuration describes.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The run directory, new or empty (default: runs/<name of CONFIG>-<n>).",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. stages.search.budget.trials=10.",
)
@click.option(
    "--resume", "again", is_flag=True, help="Continue the run in --out if there is one with the same configuration."
)
@click.option(
    "--smoke",
    is_flag=True,
    help="Only try one step of every stage, every export and every check, in a temporary directory, and stop.",
)
@workers_option
@changed_data_option
@changed_ranks_option
@quiet_option
@debug_option
def run(
    config: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    again: bool,
    smoke: bool,
    workers: int | None,
    changed_data: bool,
    changed_ranks: bool,
    quiet: bool,
) -> None:
    """Search, train, test and export what the YAML file CONFIG describes.

    In the KEY of --set, items of a list are named by their position or their own name, and VALUE is YAML:
    --set stages.search.strategy=random --set 'final={train: {epochs: 3}}'.
    """
    if again and out is None:
        raise click.UsageError("--resume needs --out, the run to continue")
    configuration = Configuration.read(config, overrides)
    if workers is not None:
        configuration.set(Override.parse(f"executor={{name: processes, workers: {workers}}}"))
    if smoke:
        if out is not None:
            raise click.UsageError("--smoke writes nothing; leave --out out")
        _smoke(configuration, quiet)
        return
    has_runs = RUNS.exists()
    directory = out or shared_directory(config.stem)

    def start(handlers: Handlers) -> Session:
        from automl_nas.run.session import Session

        if again and (directory / "config.yaml").exists():
            raw = configuration.value
            executor = raw.get("executor")
            return Session.resume(
                directory,
                raw=raw,
                executor=executor,
                handlers=handlers,
                changed_data=changed_data,
                changed_ranks=changed_ranks,
            )
        return Session.start(configuration.value, directory, handlers=handlers)

    try:
        drive(start, directory, quiet)
    except ConfigurationError as error:
        raise configuration.locate(error) from error
    finally:
        if out is None:
            remove_empty(directory, parent=not has_runs)


def _smoke(configuration: Configuration, quiet: bool) -> None:
    with quiet_libraries():
        from automl_nas.run.estimate.smoke import smoke_run

        working_plugins()
        follows = join_ranks().rank > 0
        message = None if quiet or follows else print_line
        try:
            smoke = smoke_run(configuration.value, message=message)
        except ConfigurationError as error:
            raise configuration.locate(error) from error
    if follows:
        return
    for name, seconds in smoke.stages.items():
        click.echo(f"stage '{name}': passed ({duration(seconds)})")
    for path in smoke.exports:
        click.echo(f"exported and removed: {path}")
    click.echo(f"the smoke run passed ({duration(smoke.seconds)})")


@click.command(short_help="Continue a run that was interrupted.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@workers_option
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the executor, e.g. executor=in_process; nothing else of a run can change.",
)
@changed_data_option
@changed_ranks_option
@quiet_option
@trust_option
@debug_option
def resume(
    directory: Path,
    workers: int | None,
    overrides: tuple[str, ...],
    changed_data: bool,
    changed_ranks: bool,
    quiet: bool,
    trust: bool,
) -> None:
    """Continue the run in DIR. The result is the same as without the interruption."""

    def start(handlers: Handlers) -> Session:
        from automl_nas.run.session import Session

        executor = _executor(directory, workers, overrides)
        return Session.resume(
            directory,
            executor=executor,
            handlers=handlers,
            changed_data=changed_data,
            changed_ranks=changed_ranks,
            trust=trust,
        )

    drive(start, directory, quiet)


def _executor(directory: Path, workers: int | None, overrides: Sequence[str]) -> Any:
    """Return the specification of the executor of a resumed run; None: the recorded one."""
    from automl_nas.run.record.directory import RunDirectory
    from automl_nas.run.record.yaml import Document

    changes = [Override.parse(text) for text in overrides]
    if workers is not None:
        changes.append(Override.parse(f"executor={{name: processes, workers: {workers}}}"))
    if not changes:
        return None
    configuration = Configuration(
        {"executor": RunDirectory.open(directory).read_config().get("executor")}, Document(None, str(directory))
    )
    for change in changes:
        if change.parts[0] != "executor":
            raise ConfigurationError(
                "a resumed run can change its executor only, because all other settings change the result; start a new "
                "run",
                source=change.option,
            )
        configuration.set(change)
    return configuration.value["executor"]


def new_directory(name: str) -> Path:
    """Create the run directory with the first free number. Only one of several processes can get a number."""
    number, attempts = 1, 0
    while True:
        path = RUNS / f"{name}-{number}"
        attempts += 1
        try:
            path.mkdir(parents=True)
            return path
        except OSError as error:
            if isinstance(error, FileExistsError) and RUNS.is_dir():
                number += 1
            elif not isinstance(error, FileNotFoundError) or attempts > 10:
                # Not found: another process removed the empty folder between the creation of the two folders.
                reason = f"cannot create the run directory {path}: {error.strerror}; use --out"
                raise RunDirectoryError(reason) from error


def shared_directory(name: str) -> Path:
    """Create the run directory with the first free number; under torchrun, rank 0 does."""
    from automl_nas.run.interruption import uninterrupted

    with quiet_libraries(), uninterrupted():
        ranks = join_ranks()
    created = ranks.lead(lambda: str(new_directory(name)))
    return Path(ranks.agree(created or ""))


def remove_empty(directory: Path, *, parent: bool) -> None:
    """Remove a run directory in which no run began, and the folder around it."""
    with contextlib.suppress(OSError):  # not empty
        directory.rmdir()
        if parent:
            RUNS.rmdir()


def drive(start: Callable[[Handlers], Session], directory: Path, quiet: bool) -> None:
    """Work until a run is complete, and print its result.

    Raises:
        RunInterrupted: the run was stopped by a signal.
        RunFailedError: the run cannot reach a result, or its result has shortcomings.
    """
    from automl_nas.plugin.events import MessageSent
    from automl_nas.run.interruption import interrupted, uninterrupted

    begun = time.monotonic()
    with quiet_libraries():
        try:
            with uninterrupted():
                from automl_nas.run.parts import RunParts
                from automl_nas.run.results import Result
                from automl_nas.run.session import Session  # noqa: F401 - imports torch, which `start` needs
            working_plugins()
            follows = join_ranks().rank > 0
            reporter = progress_reporter(quiet or follows)
            session = start(reporter.handlers)
            for text in (f"run directory: {directory}", *_notes(session)):
                session.notifications.send(MessageSent(text))
        except KeyboardInterrupt as error:
            raise interrupted(directory, reason=error) from None
        try:
            with Logs(reporter.warning):
                result = Result(directory, session.run(), RunParts.of_session(directory, session.plan))
        except (RunFailedError, UserError) as error:
            if not isinstance(error, RanksEndedError):
                click.echo(f"the work so far is recorded in {directory}", err=True)
            raise error
    for line in () if follows else summary(directory, result.data):
        click.echo(line)
    if not follows:
        click.echo(f"\nrun directory: {directory}")
        click.echo(f"time: {duration(time.monotonic() - begun)}")
    if kinds := [shortcoming.kind.replace("_", " ") for shortcoming in result.shortcomings]:
        raise RunFailedError(f"the run is complete, but has shortcomings ({', '.join(kinds)}); see the warnings above")


def _notes(session: Session) -> list[str]:
    """Return the notes of the cost models on their values, without repetitions."""
    notes = [
        f"{name}: {note}"
        for stage in session.plan.stages
        for name, model in stage.problem.cost_models.items()
        if (note := model.note())
    ]
    return list(dict.fromkeys(notes))
