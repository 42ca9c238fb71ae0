"""``automl-nas run`` and ``automl-nas resume``."""

from __future__ import annotations

import itertools
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import CommandT, debug_option, working_plugins
from automl_nas.cli.logs import Logs, quiet_libraries
from automl_nas.cli.overrides import Configuration, Override
from automl_nas.cli.progress import progress_reporter
from automl_nas.cli.summary import summary
from automl_nas.cli.text import duration
from automl_nas.errors import ConfigurationError, RunFailedError, RunInterrupted, UserError

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers
    from automl_nas.run.session import Session


def _quiet_option(command: CommandT) -> CommandT:
    return click.option("-q", "--quiet", is_flag=True, help="No progress on stderr, only warnings and errors.")(command)


def _workers_option(command: CommandT) -> CommandT:
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Evaluate in so many worker processes. It does not change what is found.",
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
@_workers_option
@_quiet_option
@debug_option
def run(
    config: Path, out: Path | None, overrides: tuple[str, ...], again: bool, workers: int | None, quiet: bool
) -> None:
    """Search, train, test and export what the YAML file CONFIG describes.

    In the KEY of --set, items of a list are named by their position or their own name, and VALUE is YAML:
    --set stages.search.strategy=random --set 'final={train: {epochs: 3}}'.
    """
    if again and out is None:
        raise click.UsageError("--resume needs --out: which run is to be continued?")
    given = Configuration.read(config, overrides)
    if workers is not None:
        given.set(Override.parse(f"executor={{name: processes, workers: {workers}}}"))
    directory = out or _free_directory(config)

    def start(handlers: Handlers) -> Session:
        from automl_nas.run.session import Session

        if again and (directory / "config.yaml").exists():
            return Session.resume(directory, raw=given.value, executor=given.value.get("executor"), handlers=handlers)
        return Session.start(given.value, directory, handlers=handlers)

    try:
        _drive(start, directory, quiet)
    except ConfigurationError as error:
        raise given.locate(error) from error


@click.command(short_help="Continue a run that was interrupted.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@_workers_option
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the executor, e.g. executor=in_process; nothing else of a run can change.",
)
@_quiet_option
@debug_option
def resume(directory: Path, workers: int | None, overrides: tuple[str, ...], quiet: bool) -> None:
    """Continue the run in DIR. What it finds is what it would have found without the interruption."""

    def start(handlers: Handlers) -> Session:
        from automl_nas.run.session import Session

        return Session.resume(directory, executor=_executor(directory, workers, overrides), handlers=handlers)

    _drive(start, directory, quiet)


def _executor(directory: Path, workers: int | None, overrides: Sequence[str]) -> Any:
    """Return the specification of the executor a resumed run is to use; None: the recorded one."""
    from automl_nas.run.record.directory import RunDirectory
    from automl_nas.run.record.yaml import Document

    changes = [Override.parse(text) for text in overrides]
    if workers is not None:
        changes.append(Override.parse(f"executor={{name: processes, workers: {workers}}}"))
    if not changes:
        return None
    given = Configuration(
        {"executor": RunDirectory.open(directory).read_config().get("executor")}, Document(None, str(directory))
    )
    for change in changes:
        if change.parts[0] != "executor":
            raise ConfigurationError(
                "a resumed run can change its executor only, everything else decides what is found; start a new run",
                source=change.option,
            )
        given.set(change)
    return given.value["executor"]


def _free_directory(config: Path) -> Path:
    return next(path for n in itertools.count(1) if not (path := Path("runs") / f"{config.stem}-{n}").exists())


def _drive(start: Callable[[Handlers], Session], directory: Path, quiet: bool) -> None:
    """Run a session to its end and print what it found."""
    from automl_nas.plugin.events import MessageSent

    begun = time.monotonic()
    working_plugins()
    with quiet_libraries():
        reporter = progress_reporter(quiet)
        session = start(reporter.handlers)
        for text in (f"run directory: {directory}", *_notes(session)):
            session.notifications.send(MessageSent(text))
        try:
            with Logs(reporter.warning):
                result = session.run()
        except RunInterrupted:
            raise RunInterrupted(f"stopped; to continue: automl-nas resume {shlex.quote(str(directory))}") from None
        except (RunFailedError, UserError) as error:
            click.echo(f"what was done is recorded in {directory}", err=True)
            raise error
    for line in summary(directory, result):
        click.echo(line)
    click.echo(f"\nrun directory: {directory}")
    click.echo(f"time: {duration(time.monotonic() - begun)}")
    if result["architecture"] is None and (trials := [t for t in _recorded(session) if t.stage == result["stage"]]):
        from automl_nas.run.final.assembly import nothing_found

        raise RunFailedError(nothing_found(result["stage"], trials))
    final = result["final"] or {}
    missed = [row for row in final.get("budget", ()) if not row["met"]]
    if missed:
        raise RunFailedError(
            "the run is complete, but what it delivers misses "
            + ", ".join(f"{row['cost']} {row['limit']} by {-row['margin']:.1%}" for row in missed)
            + "; it is the nearest network found: search with a lower limit, or measure more candidates (final.measure)"
        )
    failed = [item["format"] for item in final.get("not_exported", ())]
    if failed:
        raise RunFailedError(
            f"the run is complete, but not exported as {', '.join(failed)}; to write other formats: "
            f"automl-nas export {shlex.quote(str(directory))} --format NAME"
        )


def _notes(session: Session) -> list[str]:
    """Return what cost models say of their values, each once."""
    found = [
        f"{name}: {note}"
        for stage in session.plan.stages
        for name, model in stage.problem.cost_models.items()
        if (note := model.note())
    ]
    return list(dict.fromkeys(found))


def _recorded(session: Session) -> Any:
    from automl_nas.run.record.ledger import Ledger

    return Ledger(session.directory.trials, writable=False).trials.values()
