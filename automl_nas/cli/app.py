"""The group of commands: the core's commands, those of plugins, and how errors are printed."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from automl_nas._version import __version__
from automl_nas.cli.check import check
from automl_nas.cli.common import DEBUG, debug_option
from automl_nas.cli.cost import cost
from automl_nas.cli.derive import extend, retrain
from automl_nas.cli.export import export
from automl_nas.cli.logs import Logs
from automl_nas.cli.new_plugin import new_plugin
from automl_nas.cli.plan import plan
from automl_nas.cli.plugins import plugins
from automl_nas.cli.run import resume, run
from automl_nas.cli.show import show
from automl_nas.errors import AutoMLNASError, RanksEndedError, RunFailedError, RunInterrupted, UserError
from automl_nas.evaluation.ranks import process_ranks

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
"""Exit codes besides 0: the run failed; the usage or configuration is invalid; a signal stopped a resumable run."""


class CommandLine(click.Group):
    """A group that loads plugins only to list all commands, or for a command that is not one of the core.

    Errors are printed as one line on stderr; the exit code is `FAILED`, `BAD_INPUT` or `INTERRUPTED`.
    """

    def add_plugins(self) -> None:
        """Add the commands of all plugins.

        Raises:
            PluginError: a plugin is broken, and ``AUTOML_NAS_STRICT`` is on.
        """
        from automl_nas.run.configuration.builtin import complete_manager

        complete_manager().add_commands(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands of the core in the order in which they are used, then those of plugins."""
        self.add_plugins()
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; see `click.Group.get_command`."""
        if cmd_name not in self.commands:
            self.add_plugins()
        return self.commands.get(cmd_name)

    def invoke(self, ctx: click.Context) -> None:
        """Run a command. Its return value is ignored; commands raise exit codes.

        Exceptions of a plugin's command, and those of components that a command calls, become errors that name the
        plugin. A plugin's command may end with `sys.exit`.
        """
        try:
            super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, KeyboardInterrupt, AutoMLNASError):
            raise
        except BaseException as error:
            if _is_full(error):
                raise
            located = _located(ctx.invoked_subcommand or "", error)
            if located is None:
                raise
            raise located from error

    def main(self, args: Sequence[str] | None = None, *more: Any, **settings: Any) -> NoReturn:
        """Run a command line and exit; see `click.Command.main`."""
        settings["standalone_mode"] = False
        debug = os.environ.get(DEBUG)
        try:
            with Logs():
                code = self._code(args, *more, **settings)
        finally:
            # --debug sets the variable, also for worker processes. A process may call this method several times.
            os.environ.pop(DEBUG, None)
            if debug is not None:
                os.environ[DEBUG] = debug
        sys.exit(code)

    def _code(self, args: Sequence[str] | None, *more: Any, **settings: Any) -> int:
        try:
            code = super().main(args, *more, **settings)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt) as error:
            cause = error if error.args else error.__cause__ or error.__context__ or error  # click replaces it by Abort
            click.echo("interrupted" + (f": {cause}" if str(cause) else ""), err=True)
            return INTERRUPTED
        except RunInterrupted as error:
            if not process_ranks().rank:
                click.echo(str(error), err=True)
            return INTERRUPTED
        except AutoMLNASError as error:
            if os.environ.get(DEBUG):
                traceback.print_exc()
            if not (isinstance(error, RanksEndedError) and error.silent):
                rank = process_ranks().rank
                click.echo(f"error{f' (rank {rank})' if rank else ''}: {error}", err=True)
            return BAD_INPUT if isinstance(error, UserError) else FAILED
        except OSError as error:
            if not _is_full(error):
                raise
            if os.environ.get(DEBUG):
                traceback.print_exc()
            click.echo(f"error: cannot write the output: {error.strerror}; free some space", err=True)
            return FAILED
        return code if isinstance(code, int) else 0


def _is_full(error: BaseException) -> bool:
    """Whether an error is that of a full disk behind the output, which has no name; files of a run have one."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None


def _located(command: str, error: BaseException) -> AutoMLNASError | None:
    """Return the error of a command with its plugin or component; None if it is one of the core's."""
    from automl_nas.plugin.component_errors import TRACEBACK, located_error
    from automl_nas.plugin.error_text import with_place
    from automl_nas.run.configuration.builtin import complete_manager

    manager = complete_manager()
    source = next((plugin.source for plugin in manager.plugins if command in plugin.commands), None)
    if source is None:
        return located_error(error, manager.registry)
    if isinstance(error, SystemExit):
        return None
    reason = with_place(error, source.module)
    return RunFailedError(f"the command '{command}' of {source} failed: {reason}; {TRACEBACK}")


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="automl-nas")
@debug_option
def cli() -> None:
    """Search, train and export neural networks.

    Exit codes: 0 success; 1 failure; 2 invalid usage or configuration; 130 interrupted and resumable.
    """


for command in (plan, run, resume, retrain, extend, show, cost, export, plugins, new_plugin, check):
    cli.add_command(command)
