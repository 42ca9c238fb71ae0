"""``automl-nas new-plugin``."""

from __future__ import annotations

from pathlib import Path

import click

from automl_nas.cli.common import debug_option, working_plugins
from automl_nas.cli.scaffold import KINDS, NewPlugin, write_plugin
from automl_nas.errors import ConfigurationError


@click.command("new-plugin", short_help="Write a complete distribution with a plugin.")
@click.argument("distribution", metavar="NAME")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin contains.")
@click.option("--name", help="The name in configurations (default: NAME without automl-nas-).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The new folder (default: NAME in the current folder).",
)
@debug_option
@click.pass_context
def new_plugin(ctx: click.Context, distribution: str, kind: str, name: str | None, out: Path | None) -> None:
    """Write the distribution NAME: a working plugin with its contract tests, README, type checks and CI.

    The plugin is a complete example of its kind to begin with. As it is written it installs, passes its tests, and is
    in the list of `automl-nas plugins`. Nothing is overwritten.
    """
    plugin = NewPlugin.named(distribution, kind, name)
    folder = out or Path(distribution)
    if folder.exists():
        raise ConfigurationError(f"{folder} exists, and nothing is overwritten; choose another --out", path="--out")
    plugin.check_free(working_plugins())
    commands = getattr(ctx.find_root().command, "commands", {})
    if kind == "command" and plugin.name in commands:
        raise ConfigurationError(f"automl-nas has a command '{plugin.name}'; choose another --name", path="--name")
    files = plugin.files()
    write_plugin(folder, files)
    click.echo(f"wrote {len(files)} files to {folder}: {KINDS[kind].noun} '{plugin.name}' in {plugin.package}. Next:")
    for command in (f"cd {folder}", 'pip install -e ".[test]"', f"automl-nas plugins {plugin.plugin}", "pytest"):
        click.echo(f"  {command}")
