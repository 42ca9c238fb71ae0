"""Contract tests of commands that a plugin adds to ``automl-nas``: `CommandContract`."""

from __future__ import annotations

import json
import re
import traceback
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import click
from click.testing import CliRunner, Result

from automl_nas.errors import AutoMLNASError
from automl_nas.testing.contract import Contract, require

CORE_COMMANDS = frozenset(
    ["check", "cost", "export", "extend", "new-plugin", "plan", "plugins", "resume", "retrain", "run", "show"]
)
"""The names of the core's commands."""


class CommandContract(Contract):
    """The tests of a command. Derive a class whose name begins with ``Test`` and implement `make`::

        class TestTally(CommandContract):
            call = ("--top", "3", "some-run")

            def make(self):
                return tally

    Attributes:
        call: arguments of a call that succeeds; None: no call is made.
    """

    call: ClassVar[Sequence[str] | None] = None

    @abstractmethod
    def make(self) -> click.Command:
        """Return the command."""

    def arguments(self, store: Path) -> Sequence[str] | None:
        """Return the arguments of a call that succeeds (default: `call`); None: no call is made.

        Args:
            store: a folder for files that the call reads and writes.
        """
        return self.call

    def use(self, store: Path) -> Mapping[str, Any]:
        """Show the help of the command and its subcommands, and make the call."""
        commands = _all(self.make())
        values: dict[str, Any] = {
            name: [command.get_short_help_str(200), _run(command, ["--help"]).exit_code] for name, command in commands
        }
        arguments = self.arguments(store)
        if arguments is not None:
            result = _run(self.make(), arguments)
            values["output"] = result.output.replace(str(store), "FOLDER")
        return values

    def test_the_help_describes_everything(self) -> None:
        """The command, its subcommands and all options have help text, and ``--help`` ends with the exit code 0.

        Way out: write a docstring for each command function, and ``help=`` for each option.
        """
        command = self.make()
        require(isinstance(command, click.Command), f"it is a {type(command).__name__}, not a click.Command")
        for name, part in _all(command):
            require((part.help or "").strip(), f"{name} has no docstring")
            options = [parameter for parameter in part.params if isinstance(parameter, click.Option)]
            silent = [option.name for option in options if not option.hidden and not (option.help or "").strip()]
            require(not silent, f"{name}: no help for {', '.join(map(str, silent))}")
            result = _run(part, ["--help"])
            require(result.exit_code == 0, f"{name} --help ends with the exit code {result.exit_code}")

    def test_its_name_is_free(self) -> None:
        """The name has lower-case letters, digits and hyphens, and is not that of a command of the core.

        Way out: choose another name: `@click.command("my-report")`.
        """
        name = self.make().name
        require(name is not None and re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name), f"the name is {name!r}")
        require(name not in CORE_COMMANDS, f"'{name}' is a command of the core")

    def test_wrong_options_are_usage_errors(self) -> None:
        """An unknown option ends with the exit code 2, without a traceback and before anything is done.

        Way out: leave the parsing of arguments to click; no ``ignore_unknown_options``.
        """
        for name, part in _all(self.make()):
            result = _run(part, ["--no-such-option"])
            require(result.exit_code == 2, f"{name} --no-such-option: {_ending(result)}")

    def test_wrong_values_are_errors_of_the_user(self) -> None:
        """Paths that do not exist and values of a wrong type end with an error that names them, not a traceback.

        Way out: use `click.Path(exists=True)` and click's types, or raise `UserError` with the reason and the way out.
        """
        for name, part in _all(self.make()):
            values = ["/dev/null/no-such-place" for p in part.params if isinstance(p, click.Argument) and p.nargs != 0]
            for option in [None, *(p for p in part.params if isinstance(p, click.Option) and not p.is_flag)]:
                if option is None and not values:
                    continue
                extra = [] if option is None else [option.opts[0], "/dev/null/no-such-value"]  # no user can create it
                result = _run(part, [*extra, *values])
                error = result.exception
                expected = error is None or isinstance(error, SystemExit | AutoMLNASError | click.ClickException)
                place = "" if error is None or expected else traceback.format_exception(error)[-1].strip()
                require(expected, f"{name} {' '.join(map(repr, extra + values))}: {place}")
                traced = "Traceback (most recent call last)" in result.output
                require(not traced, f"{name} {' '.join(map(repr, extra + values))}: it prints a traceback")

    def test_the_call_succeeds(self) -> None:
        """The call of the contract ends with the exit code 0, and a second one gives the same output.

        Way out: the traceback is that of the command; a command ends by returning.
        """
        outputs = []
        for _ in range(2):
            folder = self.folder()
            arguments = self.arguments(folder)
            if arguments is None:
                return
            result = _run(self.make(), arguments)
            require(result.exit_code == 0, f"{' '.join(arguments)}: {_ending(result)}")
            outputs.append(result.output.replace(str(folder), "FOLDER"))
        require(outputs[0] == outputs[1], "two calls have different outputs")

    def test_json_is_json(self) -> None:
        """With ``--json``, if the command has this option, the output of the call is one JSON value.

        Way out: print `json.dumps(data, allow_nan=False)` and nothing else; messages go to the standard error output.
        """
        command, arguments = self.make(), self.arguments(self.folder())
        if arguments is None or "--json" in arguments or not any("--json" in p.opts for p in command.params):
            return
        result = _run(command, ["--json", *arguments])
        require(result.exit_code == 0, f"--json {' '.join(arguments)}: {_ending(result)}")
        try:
            json.loads(result.stdout, parse_constant=_no_json)
        except ValueError as error:
            raise AssertionError(f"the output is not JSON ({error}): {result.stdout[:200]!r}") from None


def _no_json(name: str) -> None:
    raise ValueError(f"JSON has no number {name}")


def _all(command: click.Command, prefix: str = "") -> list[tuple[str, click.Command]]:
    """Return name -> command, of a command and all its subcommands."""
    name = f"{prefix} {command.name}".strip()
    parts = [(name, command)] if not isinstance(command, click.Group) else []
    if isinstance(command, click.Group):
        for part in command.commands.values():
            parts += _all(part, name)
    return parts


def _run(command: click.Command, arguments: Sequence[str]) -> Result:
    return CliRunner().invoke(command, list(arguments))


def _ending(result: Result) -> str:
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return f"exit code {result.exit_code}: {result.output.strip()[-200:]}"
    return f"{type(error).__name__}: {error}"
