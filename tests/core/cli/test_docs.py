from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from automl_nas.cli import cli
from automl_nas.cli.app import BAD_INPUT, FAILED, INTERRUPTED

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "commands.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_the_page_has_a_section_for_each_command() -> None:
    assert list(SECTIONS) == cli.list_commands(click.Context(cli))  # with those of plugins


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_lists_the_options_of_its_command_and_no_others(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    real = {
        option
        for c in commands
        for p in c.params
        if isinstance(p, click.Option)
        for option in (*p.opts, *p.secondary_opts)
    }
    described = {
        option
        for row in re.findall(r"^\| (`-.*?) \| ", SECTIONS[name], re.MULTILINE)
        for option in re.findall(r"`(-[-\w]+)", row)
    }
    assert described == real


@pytest.mark.parametrize("line", re.findall(r"^automl-nas (.*)$", PAGE, re.MULTILINE))
def test_examples_can_be_parsed(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    command.make_context(name, arguments)


def test_exit_codes() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == [
        str(code) for code in (0, FAILED, BAD_INPUT, INTERRUPTED)
    ]
