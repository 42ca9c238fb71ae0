"""A run directory, which may come from somebody else, imports no class that only its configuration names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from torch import nn

import automl_nas
from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, RunDirectoryError
from automl_nas.run.configuration.plan import Plan

CODE = """
from pathlib import Path
from optuna.samplers import RandomSampler

Path(__file__).with_name("executed").touch()

class Sampler(RandomSampler):
    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)

class Other(Sampler):
    pass
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the module path with a module that leaves a file when it is imported."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "foreign_sampler.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("foreign_sampler", None)


@pytest.fixture
def run(tmp_path: Path, modules: Path) -> Path:
    """Return a complete run whose configuration names the class; nothing has imported it since."""
    automl_nas.search(
        space={"name": "nasbench201", "cells": 1, "channels": 2},
        task="digits",
        problem={"objectives": {"params": "minimize"}, "costs": ["params"]},
        runtime={"device": "cpu", "threads": 1},
        stages=[
            {
                "name": "search",
                "strategy": {"name": "optuna", "sampler": {"name": "foreign_sampler:Sampler"}},
                "budget": {"trials": 2},
            }
        ],
        final={"train": {"epochs": 1}, "baselines": [], "export": []},
        out=tmp_path / "run",
    )
    forget(modules)
    return tmp_path / "run"


def forget(modules: Path) -> None:
    sys.modules.pop("foreign_sampler", None)
    (modules / "executed").unlink(missing_ok=True)


def test_a_run_is_resumed_and_its_plan_is_resolved_with_consent_only(run: Path, modules: Path) -> None:
    def plan(directory: Path, *, trust: bool = False) -> Plan:
        return automl_nas.open_run(directory, trust=trust).plan

    for reader in (plan, automl_nas.resume):
        with pytest.raises(ConfigurationError, match=r"names 'foreign_sampler:Sampler'.*trust=True in Python, --trust"):
            reader(run)
        assert not (modules / "executed").exists()
        assert reader(run, trust=True) is not None
        assert (modules / "executed").exists()
        forget(modules)


def test_reading_and_exporting_a_result_imports_nothing(run: Path, modules: Path) -> None:
    result = automl_nas.open_run(run)
    assert result.found
    assert isinstance(result.load_trained(), nn.Module)
    assert result.delivery().samples is not None
    assert CliRunner().invoke(cli, ["export", str(run), "--format", "safetensors"]).exit_code == 0
    assert not (modules / "executed").exists()


@pytest.mark.parametrize("command", ["resume {} -q", "cost {}/config.yaml"])
def test_commands_ask_for_consent(run: Path, modules: Path, command: str) -> None:
    arguments = command.format(run).split()
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code != 0
    assert "--trust on the command line" in refused.output + str(refused.exception)
    assert not (modules / "executed").exists()
    accepted = CliRunner().invoke(cli, [*arguments, "--trust"])
    assert accepted.exit_code == 0, accepted.output
    assert (modules / "executed").exists()


def test_show_needs_no_consent(run: Path, modules: Path) -> None:
    assert CliRunner().invoke(cli, ["show", str(run)]).exit_code == 0
    assert not (modules / "executed").exists()


def test_what_the_user_wrote_is_imported(run: Path, modules: Path) -> None:
    """A script that is run again with resume=True names the class itself, and the record adds nothing to it."""
    written = automl_nas.open_run(run, trust=True).plan.config
    forget(modules)
    assert automl_nas.search(written, out=run, resume=True).found
    assert (modules / "executed").exists()
    config = run / "config.yaml"
    lines = config.read_text().splitlines(keepends=True)[:-1]  # without the checksum
    config.write_text("".join(lines).replace("foreign_sampler:Sampler", "foreign_sampler:Other"))
    with pytest.raises(RunDirectoryError, match="was begun with stages"):
        automl_nas.search(written, out=run, resume=True)
