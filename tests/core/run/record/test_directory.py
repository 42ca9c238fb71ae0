"""Run directories: nothing is overwritten, and nothing is in the way that the framework left itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from automl_nas.errors import DamagedError, RunDirectoryError
from automl_nas.run.record.atomic_files import read_json, write_text
from automl_nas.run.record.directory import SECTIONS, MetricsFile, RunDirectory


def test_a_run_that_was_killed_while_it_was_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", "environment.json", ".config.yaml.1234.part"):
        (tmp_path / "run" / name).write_text("")
    config = dict.fromkeys(SECTIONS)
    made = RunDirectory.create(tmp_path / "run", config)
    assert made.read_config() == config
    made.unlock()
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(tmp_path / "run", {"seed": 1})


def test_two_processes_that_make_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one was faster: it made its run, and ended it, between this one's check and this one's lock."""
    lock = RunDirectory.lock

    def late(self: RunDirectory) -> None:
        (self.path / "config.yaml").write_text("seed: 2\n")
        lock(self)

    monkeypatch.setattr(RunDirectory, "lock", late)
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(tmp_path / "run", {"seed": 1})
    assert (tmp_path / "run" / "config.yaml").read_text() == "seed: 2\n"
    assert not RunDirectory(tmp_path / "run").locked


@pytest.mark.parametrize("kept", [0, 11, 23])
def test_a_configuration_that_was_cut_off_is_not_read_as_another_one(tmp_path: Path, kept: int) -> None:
    made = RunDirectory.create(tmp_path / "run", dict.fromkeys(SECTIONS))
    made.unlock()
    os.truncate(made.config, kept)
    with pytest.raises(DamagedError, match=r"config\.yaml is damaged: it lacks .*checkpoint_seconds"):
        made.read_config()


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory: there is no such folder"):
        RunDirectory.open(tmp_path / "absent")
    with pytest.raises(RunDirectoryError, match=r"is not a run directory: it holds no config\.yaml"):
        RunDirectory.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot make the run directory"):
        RunDirectory.create(tmp_path / "file" / "run", {})


def test_the_lock_says_who_has_it_and_goes_with_its_owner(tmp_path: Path) -> None:
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


def test_damage_to_what_can_be_made_anew_is_no_end(tmp_path: Path) -> None:
    made = RunDirectory.create(tmp_path / "run", {})
    made.unlock()
    made.result.write_text('{"status": "comp')
    with pytest.raises(DamagedError, match=r"result\.json is damaged: .*; delete it and resume"):
        made.read_result()
    assert made.changed_packages() == []
    made.environment.write_text("{")
    (reason,) = made.changed_packages()
    assert "environment.json is damaged" in reason
