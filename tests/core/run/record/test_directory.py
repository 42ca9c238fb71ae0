"""Run directories: nothing is overwritten, and nothing is in the way that the framework left itself."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zlib
from importlib import metadata
from pathlib import Path

import pytest

from automl_nas.errors import ConfigurationError, DamagedError, RunDirectoryError
from automl_nas.run.record.atomic_files import CannotWriteError, read_json, read_record, write_record, write_text
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.environment import _versions, environment
from automl_nas.run.record.metrics_file import MetricsFile
from automl_nas.run.record.shapes import Fields

CONFIG = {
    "seed": 3,
    "space": {"name": "toy"},
    "problem": {"objectives": {"accuracy": "maximize"}, "constraints": {"params": "<= 1M"}},
    "runtime": {"device": "cpu"},
    "stages": [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 12}}],
    "executor": {"name": "in_process"},
    "checkpoint_seconds": 60.0,
}


def test_a_run_that_was_killed_during_creation_can_be_created_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("lock", "environment.json", ".config.yaml.1234.part"):
        (tmp_path / "run" / name).write_text("")
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    assert directory.read_config() == CONFIG
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


@pytest.mark.parametrize("length", [0, 7, 23, -30])
def test_a_configuration_that_was_cut_off_is_not_read_as_another_one(tmp_path: Path, length: int) -> None:
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    directory.unlock()
    os.truncate(directory.config, length % directory.config.stat().st_size)
    with pytest.raises(
        (DamagedError, ConfigurationError),
        match=r"config\.yaml.*( is missing; restore it|it must be a mapping|:\d+: not )",
    ):
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
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    directory.unlock()
    assert directory.read_identity() is None
    directory.identity.write_text(content)
    with pytest.raises(DamagedError, match=r"identity\.json"):
        directory.read_identity()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed: 3", "seed: 4", "does not match its checksum; restore it from a copy, or remove its last line if you"),
        ("<= 1M", "<= 9M", "does not match its checksum"),
        ("seed: 3", "seed: [3]", "does not match its checksum"),
    ],
)
def test_a_changed_configuration_is_noticed(tmp_path: Path, old: str, new: str, problem: str) -> None:
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    directory.unlock()
    directory.config.write_text(directory.config.read_text().replace(old, new))
    with pytest.raises(DamagedError, match=rf"config\.yaml is damaged: .*{problem}"):
        directory.read_config()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("seed", [3], "seed must be a whole number, not a list"),
        ("seed", -1, "seed must be at least 0"),
        ("problem", 7, "problem must be a mapping, not a number"),
        ("problem", {"objectives": {"accuracy": "up"}, "constraints": {}}, "problem.objectives.accuracy must be maxi"),
        ("stages", [], "stages must not be empty"),
        ("stages", [{"name": 1, "strategy": {"name": "random"}}], r"stages\[0\].name must be a string, not a number"),
        (
            "stages",
            [{"name": "a", "strategy": {"name": "random"}, "budget": {"trials": "x"}}],
            r"stages\[0\].budget.trials must be",
        ),
        ("space", {"name": 5}, "space.name must be a string, not a number"),
        ("executor", {}, "executor.name is missing"),
        ("sed", 3, "sed does not belong to it"),
    ],
)
def test_a_configuration_of_wrong_types_is_named(tmp_path: Path, path: str, value: object, problem: str) -> None:
    directory = RunDirectory.create(tmp_path / "run", {**CONFIG, path: value})
    directory.unlock()
    with pytest.raises(DamagedError, match=rf"config\.yaml is damaged: {problem}"):
        directory.read_config()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "Expecting value"),
        ("[]", "it must be a mapping, not a list"),
        ("{}", "a is missing"),
        ("7", "it must be a mapping, not a number"),
        ("null", "it must be a mapping, not null"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "1"}', "a must be a whole number, not a string"),
        ('{"a": true}', "a must be a whole number, not true"),
        ('{"a": 1, "b": 2}', "b does not belong to it"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 2, "crc": "c9bdb2e4"}', "does not match its checksum"),
        ("\x00\xff", "can't decode byte"),
    ],
    ids=range(13),
)
def test_a_damaged_record_is_named(tmp_path: Path, content: str, problem: str) -> None:
    shape = Fields({"a": int}, closed=True)
    path = tmp_path / "x.json"
    write_record(path, {"a": 1})
    assert read_record(path, shape) == {"a": 1}
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DamagedError, match=rf"x\.json is damaged: .*{problem}"):
        read_record(path, shape)
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedError, match=r"x\.json cannot be read: Is a directory"):
        read_record(path, shape)


def test_the_checksum_of_a_record_does_not_depend_on_its_layout(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    value = {"a": [1, 0.1, None, "ä"], "b": {"c": True}}
    write_record(path, value)
    assert json.loads(path.read_text())["crc"] == f"{zlib.crc32(json.dumps(value, separators=(',', ':')).encode()):08x}"
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert read_record(path, Fields({})) == value
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(DamagedError, match="If you edited it: remove its entry 'crc'"):
        read_record(path, Fields({}))


def test_a_link_that_leads_nowhere_is_not_a_missing_file(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    directory.unlock()
    assert directory.read_result() is None
    directory.result.symlink_to("result.json")
    with pytest.raises(
        DamagedError, match=r"result\.json cannot be read: Too many levels of symbolic links; delete it"
    ):
        directory.read_result()


def test_a_lock_that_is_no_file_is_no_lock(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path / "run", CONFIG)
    directory.unlock()
    (tmp_path / "run" / "lock").unlink()
    (tmp_path / "run" / "lock").mkdir()
    assert not directory.locked
    with pytest.raises(CannotWriteError, match="lock: Is a directory"):
        directory.lock()


def test_what_is_no_run_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="is not a run directory: the folder does not exist"):
        RunDirectory.open(tmp_path / "absent")
    with pytest.raises(RunDirectoryError, match=r"is not a run directory: it holds no config\.yaml"):
        RunDirectory.open(tmp_path)
    with pytest.raises(RunDirectoryError, match="is not a run directory: File name too long"):
        RunDirectory.open(tmp_path / ("a" * 300))
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot create the run directory"):
        RunDirectory.create(tmp_path / "file" / "run", {})


def test_a_place_without_permission_is_refused_before_work_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"file is not a folder"):
        RunDirectory.check_new(tmp_path / "file" / "run")
    RunDirectory.check_new(tmp_path / "new" / "run")
    monkeypatch.setattr(os, "access", lambda *arguments, **settings: False)
    with pytest.raises(RunDirectoryError, match=r"this user may not write to .*; choose another --out"):
        RunDirectory.check_new(tmp_path / "new" / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_record_without_permission_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DamagedError, match=r"result\.json cannot be read: Permission denied$"):
        read_record(tmp_path / "result.json", {}, "delete it and resume")


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
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 0.125)]
    for line, text in zip(lines, path.read_bytes().splitlines(), strict=True):
        body = text[: text.index(b',"crc"')]
        assert line["crc"] == f"{zlib.crc32(body):08x}"


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
def test_a_process_that_a_killed_run_forked_does_not_hold_its_lock(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", CONFIG).unlock()
    awaited, release = os.pipe()
    run = os.fork()
    if not run:
        directory = RunDirectory.open(tmp_path / "run")
        directory.lock()
        if not os.fork():
            os.close(release)
            os.read(awaited, 1)  # lives until the test closes the pipe
            os._exit(0)
        os._exit(0 if directory.locked else 1)
    assert os.waitpid(run, 0)[1] == 0, "the lock of the parent must stay"
    directory = RunDirectory.open(tmp_path / "run")
    directory.lock()
    directory.unlock()
    os.close(awaited)
    os.close(release)


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


def test_a_run_is_locked_also_where_the_disk_is_full(tmp_path: Path) -> None:
    """The device accepts no byte, as a full disk does. The lock itself needs none."""
    (tmp_path / "lock").symlink_to("/dev/full")
    directory = RunDirectory(tmp_path)
    directory.lock()
    assert RunDirectory(tmp_path).locked
    directory.unlock()
    assert not RunDirectory(tmp_path).locked
