"""What several commands use: options, and the plugin manager with a warning about broken plugins."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from automl_nas.plugin.manager import PluginManager

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

DEBUG = "AUTOML_NAS_DEBUG"
"""Environment variable: 1 shows the traceback of every error and the warnings of libraries."""


def _debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG] = "1"


def debug_option(command: CommandT) -> CommandT:
    """Add ``--debug`` to a command."""
    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_debug,
        help=f"Show tracebacks and the warnings of libraries ({DEBUG}=1).",
    )(command)


def trust_option(command: CommandT) -> CommandT:
    """Add ``--trust`` to a command that reads a run directory."""
    return click.option(
        "--trust",
        is_flag=True,
        help="Import also classes that the run directory names and no plugin registers, which executes their code.",
    )(command)


def json_option(command: CommandT) -> CommandT:
    """Add ``--json`` to a command, as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def working_plugins() -> PluginManager:
    """Return the plugin manager. If plugins are broken, print a warning of one line on stderr."""
    from automl_nas.run.configuration.builtin import complete_manager

    manager = complete_manager()
    broken = [failure.source.plugin for failure in manager.broken]
    if broken:
        plural = "plugins are" if len(broken) > 1 else "plugin is"
        click.echo(
            f"warning: {len(broken)} {plural} broken and not used: {', '.join(broken)}; see: automl-nas plugins",
            err=True,
        )
    return manager
