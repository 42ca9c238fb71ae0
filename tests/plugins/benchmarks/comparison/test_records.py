"""Recorded searches survive crashes, are not mixed with others, and are not run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plugins.benchmarks.comparison import fixtures
from plugins.benchmarks.comparison.fixtures import spec, write_table

from automl_nas.errors import RunDirectoryError, RunFailedError
from automl_nas_benchmarks.comparison.api import compare
from automl_nas_benchmarks.comparison.records import SEARCHES, Records
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.settings import changes

SCAN = "plugins.benchmarks.comparison.fixtures:Scan"
CONFIG = {
    "strategies": [{"label": "one", "name": SCAN, "times": 1}],
    "benchmarks": [{"label": "small", "name": "small"}],
    "seeds": 3,
    "first_seed": 0,
    "evaluations": 5,
    "batch": 1,
    "deduplicate": True,
    "constraints": {},
    "objectives": ["accuracy"],
    "top": [0.01],
    "judge": "final",
    "alpha": 0.05,
}


def record(seed: int, strategy: str = "one") -> SearchRecord:
    steps = ((1, 0.5), (3, 1.25))
    return SearchRecord(strategy, "small", seed, 5, 5, steps, steps, (), "{}", "budget", 1e-4, 2e-4, 0.1)


def opened(folder: Path, warn: Callable[[str], object] = pytest.fail, **more: Any) -> Records:
    return Records(folder, more.pop("config", CONFIG), more.pop("fingerprints", {"small": "abc"}), warn, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with opened(tmp_path / "out") as records:
        for seed in range(3):
            records.add(record(seed))
    return tmp_path / "out"


def test_records_are_read_back(folder: Path) -> None:
    with opened(folder) as records:
        assert list(records.searches.values()) == [record(seed) for seed in range(3)]


def test_records_remove_an_incomplete_line(folder: Path) -> None:
    whole = (folder / SEARCHES).read_bytes()
    begin = whole.rindex(b"\n", 0, -1) + 1
    for end in range(begin, len(whole), 37):
        (folder / SEARCHES).write_bytes(whole[:end])
        with opened(folder) as records:
            assert [key[2] for key in records.searches] == [0, 1]
            records.add(record(2))
        assert (folder / SEARCHES).read_bytes() == whole


def test_records_warn_of_a_damaged_line_and_drop_its_search(folder: Path) -> None:
    lines = (folder / SEARCHES).read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        damaged = line.replace(b"1.25", b"1.75", 1)
        assert damaged != line
        (folder / SEARCHES).write_bytes(b"".join([*lines[:number], damaged, *lines[number + 1 :]]))
        warnings: list[str] = []
        with opened(folder, warnings.append) as records:
            assert [key[2] for key in records.searches] == [seed for seed in range(3) if seed != number]
        assert warnings == [f"{folder / SEARCHES}, line {number + 1}: damaged; its search is run again"]


def test_records_are_locked_against_other_processes(folder: Path) -> None:
    with opened(folder), pytest.raises(RunDirectoryError, match="is in use by another process"):
        opened(folder)
    with opened(folder):
        pass


def test_records_refuse_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(RunDirectoryError, match="is not empty and is not a comparison"):
        opened(tmp_path)
    with pytest.raises(RunDirectoryError, match="is a file"):
        opened(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"evaluations": 6}, "evaluations: 5 -> 6"),
        ({"deduplicate": False}, "deduplicate: True -> False"),
        ({"first_seed": 1}, "first_seed: 0 -> 1"),
        ({"seeds": 2}, r"seeds: 3 -> 2"),
        ({"constraints": {"flops": "<= 1"}}, "constraints: {} -> {'flops': '<= 1'}"),
        ({"strategies": [{"label": "one", "name": SCAN, "times": 2}]}, "strategies, one: times: 1 -> 2"),
        ({"strategies": [{"label": "two", "name": SCAN, "times": 1}]}, r"strategies: 'one' is missing"),
        ({"benchmarks": [{"label": "small", "name": "large"}]}, "benchmarks, small: name: small -> large"),
    ],
)
def test_records_refuse_a_changed_configuration(folder: Path, change: dict[str, Any], message: str) -> None:
    before = (folder / "comparison.yaml").read_text()
    with pytest.raises(RunDirectoryError, match=f"holds searches of another configuration:\n  {message}"):
        opened(folder, config={**CONFIG, **change})
    assert (folder / "comparison.yaml").read_text() == before


def test_records_refuse_a_changed_table(folder: Path) -> None:
    with pytest.raises(RunDirectoryError, match="benchmarks, small: its numbers have changed"):
        opened(folder, fingerprints={"small": "def"})


def test_changes_ignore_added_entries_and_seeds() -> None:
    more = {
        **CONFIG,
        "seeds": 7,
        "strategies": [{"label": "two", "name": "random"}, *CONFIG["strategies"]],  # type: ignore[misc]
        "benchmarks": [*CONFIG["benchmarks"], {"label": "large", "name": "large"}],  # type: ignore[misc]
        "top": [0.5],
        "judge": "anytime",
        "alpha": 0.1,
    }
    assert changes(CONFIG, more) == []


def test_redo_runs_one_strategy_again(folder: Path) -> None:
    both = {**CONFIG, "strategies": [*CONFIG["strategies"], {"label": "two", "name": "random"}]}  # type: ignore[misc]
    with opened(folder, config=both) as records:
        records.add(record(0, "two"))
    changed = {**both, "strategies": [*CONFIG["strategies"], {"label": "two", "name": "aging"}]}  # type: ignore[misc]
    with pytest.raises(RunDirectoryError, match="strategies, two: name: random -> aging"):
        opened(folder, config=changed)
    with opened(folder, config=changed, redo=["two"]) as records:
        assert {key[0] for key in records.searches} == {"one"}
        records.add(replace(record(0, "two"), distinct=4))
    with opened(folder, config=changed) as records:
        assert [item.distinct for item in records.searches.values()] == [5, 5, 5, 4]


def test_records_warn_of_changed_versions(folder: Path) -> None:
    state = folder / "state.json"
    state.write_text(state.read_text().replace(sys.version.split()[0], "2.7.18"))
    warnings: list[str] = []
    with opened(folder, warnings.append):
        pass
    assert warnings == [f"recorded searches were run with python 2.7.18, new ones with {sys.version.split()[0]}"]


def test_records_on_a_full_disk_keep_complete_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / SEARCHES).read_bytes()
    with opened(folder) as records:
        real = records._file

        class Full:
            def write(self, data: bytes) -> int:
                real.write(data[:20])
                raise OSError(28, "No space left on device")

            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

        monkeypatch.setattr(records, "_file", Full())
        with pytest.raises(RunFailedError, match="the disk is full"):
            records.add(record(9))
        monkeypatch.setattr(records, "_file", real)
    assert (folder / SEARCHES).read_bytes() == before


SCRIPT = """
import sys
from automl_nas_benchmarks.comparison import compare
from plugins.benchmarks.comparison.fixtures import spec
compare(
    {"slow": "plugins.benchmarks.comparison.fixtures:Sleeper"},
    [spec(sys.argv[1])],
    seeds=8,
    evaluations=12,
    out=sys.argv[2],
)
"""


@pytest.mark.process
def test_records_survive_a_kill_except_the_running_search(tmp_path: Path) -> None:
    table, out = write_table(tmp_path / "small.csv"), tmp_path / "out"
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(fixtures.__file__).parents[3]), *sys.path]),
    }
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(table), str(out)], env=environ)
    try:
        while not (out / SEARCHES).exists() or (out / SEARCHES).read_bytes().count(b"\n") < 3:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    recorded = (out / SEARCHES).read_bytes()
    complete_lines = recorded[: recorded.rindex(b"\n") + 1]
    assert 3 <= complete_lines.count(b"\n") < 8
    strategies = {"slow": "plugins.benchmarks.comparison.fixtures:Sleeper"}
    compare(strategies, [spec(table)], seeds=8, evaluations=12, out=out)
    after = (out / SEARCHES).read_bytes()
    assert after.startswith(complete_lines)
    assert after.count(b"\n") == 8
    again = compare(strategies, [spec(table)], seeds=8, evaluations=12)
    with_record = compare(strategies, [spec(table)], seeds=8, evaluations=12, out=out)
    assert (out / SEARCHES).read_bytes() == after
    assert [untimed(item) for item in with_record.records] == [untimed(item) for item in again.records]


def untimed(record: SearchRecord) -> SearchRecord:
    return replace(record, proposal_seconds=0, late_seconds=0, seconds=0)
