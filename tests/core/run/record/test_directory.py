"""Run directories: nothing is overwritten, and nothing is in the way that the framework left itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from automl_nas.errors import DamagedError, RunDirectoryError
from automl_nas.run.record.atomic_files import read_json, write_text
from automl_nas.run.record.directory import SECTIONS, RunDirectory
from automl_nas.run.record.environment import _versions, environment
from automl_nas.run.record.metrics_file import MetricsFile


def test_a_run_that_was_killed_during_creation_can_be_created_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", "environment.json", ".config.yaml.1234.part"):
        (tmp_path / "run" / name).write_text("")
    config = dict.fromkeys(SECTIONS)
    directory = RunDirectory.create(tmp_path / "run", config)
    assert directory.read_config() == config
    directory.unlock()
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(tmp_path / "run", {"seed": 1})


def test_two_processes_that_make_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process created and finished its run between the check and the lock of this one."""
    lock = RunDirectory.lock

    def late(self: RunDirectory) -> None:
        (self.path / "config.yaml").write_text("seed: 2\n")
        lock(self)

    monkeypatch.setattr(RunDirectory, "lock", late)
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(tmp_path / "run", {"seed": 1})
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 2\n"
    assert not RunDirectory(tmp_path / "run").locked


@pytest.mark.parametrize("length", [0, 11, 23])
def test_a_configuration_that_was_cut_off_is_not_read_as_another_one(tmp_path: Path, length: int) -> None:
    directory = RunDirectory.create(tmp_path / "run", dict.fromkeys(SECTIONS))
    directory.unlock()
    os.truncate(directory.config, length)
    with pytest.raises(DamagedError, match=r"config\.yaml is damaged: .*checkpoint_seconds is missing"):
        directory.read_config()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        "{}",
        '{"space": null, "final_space": null, "task": null, "final_task": null}',
        '{"space": {"decisions": {}, "modules": []}, "final_space": null, "task": null, "final_task": null}',
    ],
)
def test_a_damaged_identity_is_named(tmp_path: Path, content: str) -> None:
    directory = RunDirectory.create(tmp_path / "run", dict.fromkeys(SECTIONS))
    directory.unlock()
    assert directory.read_identity() is None
    directory.identity.write_text(content)
    with pytest.raises(DamagedError, match=r"identity\.json"):
        directory.read_identity()


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory: the folder does not exist"):
        RunDirectory.open(tmp_path / "absent")
    with pytest.raises(RunDirectoryError, match=r"is not a run directory: it holds no config\.yaml"):
        RunDirectory.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot create the run directory"):
        RunDirectory.create(tmp_path / "file" / "run", {})


def test_the_lock_names_its_owner_and_ends_with_it(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path / "run", {})
    second = RunDirectory.open(tmp_path / "run")
    assert second.locked
    with pytest.raises(RunDirectoryError, match=r"in use by process \d+ on "):
        second.lock()
    first.unlock()
    assert not second.locked
    second.lock()
    second.unlock()


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, 0)
    file.append({"step": 1, "loss": 0.5})
    length = file.sync()
    file.append({"step": 2, "loss": 0.25})
    file.close()
    assert path.read_text().count("\n") == 2
    file = MetricsFile(path, length)
    file.append({"step": 2, "loss": 0.125})
    file.close()
    assert path.read_text() == '{"step":1,"loss":0.5}\n{"step":2,"loss":0.125}\n'


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(DamagedError, match=r"x\.json is damaged: .*line 1"):
        read_json(tmp_path / "x.json")


def test_damaged_files_that_can_be_computed_again_are_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run", {})
    directory.unlock()
    directory.result.write_text('{"status": "comp')
    with pytest.raises(DamagedError, match=r"result\.json is damaged: .*; delete it and resume"):
        directory.read_result()
    assert directory.changed_packages() == []
    directory.environment.write_text("{")
    (reason,) = directory.changed_packages()
    assert "environment.json is damaged" in reason


@pytest.mark.process
def test_leftovers_of_killed_processes_are_removed_when_the_run_is_locked(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run", {"seed": 1})
    directory.unlock()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    artifacts = tmp_path / "run" / "artifacts"
    artifacts.mkdir(exist_ok=True)
    leftover = artifacts / f".weights.safetensors.{ended.pid}.part"
    written_now = artifacts / f".weights.safetensors.{os.getppid()}.part"  # of a living process: a mirror, say
    of_the_user = artifacts / ".notes.part"
    for file in (leftover, written_now, of_the_user):
        file.write_bytes(b"part")
    directory.lock()
    directory.unlock()
    assert [file.exists() for file in (leftover, written_now, of_the_user)] == [False, True, True]


def test_the_environment_names_optuna_and_the_distribution_of_every_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        dist = metadata.distribution("pluggy")

    monkeypatch.setattr("automl_nas.run.record.environment.metadata.entry_points", lambda group: [Point])
    _versions.cache_clear()
    versions = environment()
    _versions.cache_clear()
    for package in ("optuna", "torch", "pluggy"):
        assert versions[package] == metadata.version(package)
    assert versions["python"] == platform.python_version()
