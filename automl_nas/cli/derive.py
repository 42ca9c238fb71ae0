"""``automl-nas retrain`` and ``automl-nas extend``: new runs from complete ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from automl_nas.cli.common import CommandT, debug_option, trust_option
from automl_nas.cli.overrides import Configuration, Override
from automl_nas.cli.run import (
    RUNS,
    changed_data_option,
    drive,
    quiet_option,
    remove_empty,
    shared_directory,
    workers_option,
)
from automl_nas.errors import ConfigurationError

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers
    from automl_nas.run.derivation import Command
    from automl_nas.run.session import Session


def _options(command: CommandT) -> CommandT:
    """Add what both commands have."""
    command = debug_option(trust_option(quiet_option(changed_data_option(command))))
    command = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting.")(command)
    command = click.option(
        "--out",
        type=click.Path(path_type=Path),
        help="The new run directory, new or empty (default: runs/<name of RUN>-<command>-<n>).",
    )(command)
    return click.argument("directory", metavar="RUN", type=click.Path(path_type=Path))(command)


@click.command(short_help="Train, test and export again with the search of a complete run.")
@_options
def retrain(
    directory: Path, out: Path | None, overrides: tuple[str, ...], changed_data: bool, quiet: bool, trust: bool
) -> None:
    """Do a new final stage with the trials of the complete run RUN. The search is not repeated.

    The new run has a directory of its own; RUN is only read. Settings of final, runtime, observers and
    checkpoint_seconds can change: --set final.train.epochs=300.
    """
    _derive("retrain", directory, out, overrides, None, changed_data, quiet, trust)


@click.command(short_help="Continue a stage of a complete run with more trials.")
@workers_option
@_options
def extend(
    directory: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    workers: int | None,
    changed_data: bool,
    quiet: bool,
    trust: bool,
) -> None:
    """Continue a stage of the complete run RUN with more trials: --set stages.search.budget.trials=400.

    If the stage ended because its strategy was done, not because of a budget, change the setting that ends it, such as
    stages.search.strategy.generations for evolution.

    The new run has a directory of its own with a copy of the recorded trials, which are not evaluated again; RUN is
    only read. Later stages and the final stage are done anew.
    """
    _derive("extend", directory, out, overrides, workers, changed_data, quiet, trust)


def _derive(
    command: Command,
    directory: Path,
    out: Path | None,
    overrides: tuple[str, ...],
    workers: int | None,
    changed_data: bool,
    quiet: bool,
    trust: bool,
) -> None:
    from automl_nas.run.record.directory import RunDirectory
    from automl_nas.run.record.yaml import Document

    source = RunDirectory.open(directory)
    recorded = source.read_config()
    configuration = Configuration(recorded, Document(None, str(directory)))
    changes = [Override.parse(text) for text in overrides]
    if workers is not None:
        changes.append(Override.parse(f"executor={{name: processes, workers: {workers}}}"))
    for change in changes:
        configuration.set(change)
    has_runs = RUNS.exists()
    target = out or shared_directory(f"{directory.resolve().name}-{command}")

    def start(handlers: Handlers) -> Session:
        from automl_nas.run.derivation import Derivation
        from automl_nas.run.session import Session

        derivation = Derivation(source, recorded, configuration.value, command, changed_data)
        return Session.derive(derivation, target, handlers=handlers, trust=trust)

    try:
        drive(start, target, quiet)
    except ConfigurationError as error:
        raise configuration.locate(error) from error
    finally:
        if out is None:
            remove_empty(target, parent=not has_runs)
