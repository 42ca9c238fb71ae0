"""Commands that break their contract."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from automl_nas.testing import CommandContract, Contract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(CommandContract):
        def make(self) -> click.Command:
            made: click.Command = component()
            return made

        def arguments(self, store: Path) -> Sequence[str] | None:
            file = store / "names.txt"
            file.write_text("b\na\nc\n")
            return ["--top", "2", str(file)]

    return Subject


CASES = Cases("commands", contract)


def command(function: Any, name: str = "names", help_text: str | None = "Show the first names.", **top: Any) -> Any:
    """Return a command that reads a file; parts of it can be replaced."""
    options = {"type": int, "default": 3, "help": "How many.", **top}
    made = click.command(name, help=help_text)(
        click.option("--top", **options)(click.argument("file", type=click.Path(exists=True, dir_okay=False))(function))
    )
    return made


def lines(file: str, top: int) -> list[str]:
    return sorted(Path(file).read_text().splitlines())[:top]


def show(file: str, top: int) -> None:
    click.echo("\n".join(lines(file, top)))


@CASES.keeps
def names() -> Any:
    return command(show)


@CASES.breaks("the_help_describes_everything")
def no_docstring() -> Any:
    return command(show, help_text="")


@CASES.breaks("the_help_describes_everything")
def silent_option() -> Any:
    return command(show, help=None)


@CASES.breaks("its_name_is_free")
def shadows_run() -> Any:
    return command(show, name="run")


@CASES.breaks("its_name_is_free")
def capital_letters() -> Any:
    return command(show, name="MyNames")


@CASES.breaks("wrong_options_are_usage_errors")
def accepts_any_option() -> Any:
    made = command(show)
    made.context_settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    made.params = [item for item in made.params if item.name != "file"]
    made.callback = lambda top: None
    return made


@CASES.breaks("wrong_values_are_errors_of_the_user")
def opens_any_path() -> Any:
    made = command(show)
    made.params[0 if made.params[0].name == "file" else 1].type = click.STRING
    return made


@CASES.breaks("wrong_values_are_errors_of_the_user")
def parses_numbers_itself() -> Any:
    made = command(lambda file, top: show(file, int(top)), type=str)
    file = next(item for item in made.params if item.name == "file")
    file.type, file.required = click.STRING, False
    return made


@CASES.breaks("the_call_succeeds")
def raises() -> Any:
    def broken(file: str, top: int) -> None:
        raise KeyError(file)

    return command(broken)


@CASES.breaks("the_call_succeeds")
def counts_calls() -> Any:
    return command(lambda file, top: click.echo(next(_CALLS)))


_CALLS = itertools.count()


@CASES.breaks("the_global_generators_are_left_alone")
def shuffles() -> Any:
    def broken(file: str, top: int) -> None:
        random.shuffle(lines(file, top))

    return command(broken)


@CASES.breaks("another_process_gives_the_same")
def order_of_a_set() -> Any:
    def broken(file: str, top: int) -> None:
        click.echo(" ".join({f"name-{line}" for line in "abcdefgh"}))

    return command(broken)


@CASES.breaks("no_file_is_written_elsewhere")
def writes_a_history() -> Any:
    def broken(file: str, top: int) -> None:
        Path("history.txt").write_text(file)

    return command(broken)


@CASES.breaks("global_settings_are_left_alone")
def changes_the_directory() -> Any:
    def broken(file: str, top: int) -> None:
        import os

        os.chdir(Path(file).parent)

    return command(broken)


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("wrong_values_are_errors_of_the_user")
def prints_the_traceback() -> Any:
    def broken(file: str, top: int) -> None:
        import traceback

        try:
            show(file, top)
        except Exception:
            click.echo(traceback.format_exc())

    made = command(broken)
    next(item for item in made.params if item.name == "file").type = click.STRING
    return made


@CASES.breaks("json_is_json")
def json_with_a_heading() -> Any:
    def broken(file: str, top: int, as_json: bool) -> None:
        click.echo("names:")
        click.echo('["a"]' if as_json else "a")

    made = command(broken)
    made.params.append(click.Option(["--json", "as_json"], is_flag=True, help="As JSON."))
    return made


@CASES.breaks("json_is_json")
def json_with_nan() -> Any:
    def broken(file: str, top: int, as_json: bool) -> None:
        click.echo('{"mean": NaN}' if as_json else "nan")

    made = command(broken)
    made.params.append(click.Option(["--json", "as_json"], is_flag=True, help="As JSON."))
    return made
