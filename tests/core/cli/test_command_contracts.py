"""Every command, of the core and of first-party plugins, passes the contract of commands."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from automl_nas.cli import cli
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.testing import CommandContract
from automl_nas.testing.commands import CORE_COMMANDS

WAITING = {"worker", "workers"}


class TestCommands(CommandContract):
    """One group with all commands: the clauses look at each of them."""

    call = ("plugins", "--json")

    @pytest.mark.slow
    @pytest.mark.process
    def test_wrong_values_are_errors_of_the_user(self) -> None:
        super().test_wrong_values_are_errors_of_the_user()

    def make(self) -> click.Command:
        group = click.Group("all-commands", help="All commands.")
        for name in sorted(CORE_COMMANDS):
            group.add_command(cli.commands[name], name)
        for plugin in complete_manager().plugins:
            for name, command in plugin.commands.items():
                if name not in WAITING:
                    group.add_command(command, name)
        return group


class TestWorkers(CommandContract):
    """They wait, for minutes, until a run can be reached: also under a wrong address."""

    test_wrong_values_are_errors_of_the_user = None

    def make(self) -> click.Command:
        group = click.Group("workers-group", help="Commands of workers.")
        for plugin in complete_manager().plugins:
            for name in WAITING & set(plugin.commands):
                group.add_command(plugin.commands[name], name)
        return group


def test_the_contract_knows_the_commands_of_the_core() -> None:
    installed = {name for plugin in complete_manager().plugins for name in plugin.commands}
    assert set(cli.commands) - installed == CORE_COMMANDS


def test_names_of_commands_have_one_form() -> None:
    group = TestCommands().make()
    assert isinstance(group, click.Group)
    assert len(group.commands) > len(CORE_COMMANDS)
    for name, command in group.commands.items():
        assert command.name == name
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@pytest.mark.slow
def test_commands_of_a_run_end_with_success(program: Any, finished: Callable[[], Path]) -> None:
    """One complete run serves them all; with ``--json`` they print one JSON value."""
    run = finished()
    calls: dict[str, list[object]] = {
        "plan": [program.config],
        "show": [run],
        "cost": [program.config],
        "plugins": [],
        "resume": [run],
        "report": [run],
        "export": [run, "--format", "safetensors"],
        "extend": [run, "--set", "stages.search.budget.trials=14", "--out", program.folder / "extended"],
        "compare": [run, program.folder / "extended"],
        "retrain": [run, "--out", program.folder / "retrained"],
        "new-plugin": ["nas-mine", "--kind", "cost"],
    }
    for name, arguments in calls.items():
        program(name, *arguments)
        if name in ("plan", "show", "cost", "plugins", "compare") and any(
            "--json" in parameter.opts for parameter in cli.commands[name].params
        ):
            json.loads(program(name, *arguments, "--json").stdout, parse_constant=_refuse)
    # `run` made the run; `check` has tests of its own, which let it pass and fail.
    assert set(calls) | {"run", "check"} >= CORE_COMMANDS
