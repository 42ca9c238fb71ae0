"""The command ``automl-nas init``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import click

from automl_nas.cli import Logs, Override, debug_option, quiet_libraries, working_plugins
from automl_nas.errors import ConfigurationError


@click.command(short_help="Look at data and write a commented configuration for them.")
@click.argument("path", default="digits")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write (default: <name of PATH>.yaml in the current folder).",
)
@click.option(
    "--target",
    metavar="COLUMN",
    help="The column of a CSV file to predict; for labels of images perhaps several, as in cat,dog.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the task, e.g. task.skip_broken=true. May be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@debug_option
def init(path: str, out: Path | None, target: str | None, overrides: tuple[str, ...], overwrite: bool) -> None:
    """Write a commented configuration that searches a network for PATH, and check it.

    PATH is a folder with a folder of images for each class, a CSV file (a table, or paths and labels of images), an npz
    file with train_images and train_labels or with x and y, or nothing for the digits of scikit-learn. An existing file
    is replaced only with --overwrite, or if you agree in a terminal.
    """
    file = out or Path(f"{Path(path).resolve().stem}.yaml")
    if file.is_dir():
        raise ConfigurationError(f"{file} is a folder; name a file", source="--out")
    if file.exists() and not overwrite:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"{file} exists; use another --out, or --overwrite")
        click.confirm(f"{file} exists. Replace it?", abort=True)
        overwrite = True
    registry = working_plugins().registry
    with quiet_libraries(), Logs(_once()):
        from automl_nas.run import make_plan, parse_yaml
        from automl_nas_estimators.defaults.configuration import choose_configuration
        from automl_nas_estimators.defaults.data import choose_task
        from automl_nas_estimators.defaults.image_listing import GUESS

        title = f"{path}. Written by `automl-nas init`"
        choice = choose_task(path, target)
        for override in map(Override.parse, overrides):
            if len(override.parts) != 2 or override.parts[0] != "task":
                raise ConfigurationError(
                    "only settings of the task can be set here, e.g. task.skip_broken=true; edit the file for others",
                    source=override.option,
                )
            choice.settings[override.parts[1]] = override.value
            choice.comments[override.parts[1]] = f"set by {override.option}"
        choices = choose_configuration(choice, registry, title=title)
        text = choices.text
        plan = make_plan(parse_yaml(text, str(file)).value, registry)
    _write(file, text, overwrite=overwrite)
    for name, reason in choice.comments.items():
        if GUESS in reason:
            value = choice.settings[name]
            shown = value if isinstance(value, str) else ", ".join(value)
            click.echo(f"{path}: {name}: {shown}: {reason}; --target names another one")
    click.echo(f"{path}: {choices.summary[0]}; space: {plan.config['space']['name']}")
    click.echo(f"wrote {file}. Next:")
    named = shlex.quote(str(file))
    for command in (f"plan {named}", f"run {named} --smoke", f"run {named}"):
        click.echo(f"  automl-nas {command}")
    if "[package]" in text:
        click.echo("  python RUN/export/package/infer.py FILE   (RUN: the directory that the run prints)")


def _once() -> Callable[[str], None]:
    """Return a function that prints a warning once: the task is constructed twice."""
    shown: set[str] = set()

    def show(text: str) -> None:
        if text not in shown:
            shown.add(text)
            click.echo(f"warning: {text}", err=True)

    return show


def _write(file: Path, text: str, *, overwrite: bool) -> None:
    """Write the file; a file that appeared meanwhile is kept unless it may be replaced."""
    from automl_nas.run import cannot_write, write_whole

    elsewhere, created = "free some space, or write to another disk with --out", False
    try:
        if overwrite:
            write_whole(file, lambda stream: stream.write(text.encode()), full=elsewhere)
            return
        with file.open("x", encoding="utf-8") as stream:
            created = True
            stream.write(text)
    except FileExistsError:
        raise ConfigurationError(f"{file} exists; use another --out, or --overwrite") from None
    except OSError as error:
        if created:
            file.unlink(missing_ok=True)  # a part of it
        raise cannot_write(file, error, elsewhere) from error
