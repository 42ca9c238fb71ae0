"""Candidates that fail, processes that die, files that are damaged: named, survived, without a trace in the result."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.failing_candidates import Forgetful, Free, Misbehaving, Shared, Slow
from end_to_end.runs import config, in_child, record, small_space

import automl_nas
from automl_nas.errors import EvaluationError, RunDirectoryError, RunFailedError, RunInterrupted
from automl_nas.plugin import TrialFinished
from automl_nas.run.record.ledger import Ledger


def search_only(evaluator: Any, **changes: Any) -> dict[str, Any]:
    """Return a configuration with one stage of 20 random trials and nothing after it."""
    stage = {"name": "search", "strategy": "random", "evaluator": evaluator, "budget": {"trials": 20}, **changes}
    return {
        "space": small_space(),
        "problem": {"objectives": {"accuracy": "maximize"}, "costs": ["params"]},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [stage],
    }


def run(settings: dict[str, Any], out: Path, **more: Any) -> automl_nas.Result:
    result: automl_nas.Result = automl_nas.search(settings, out=out, resume=True, **more)
    return result


def trials(out: Path) -> Ledger:
    return Ledger(out / "trials.jsonl", writable=False)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "ValueError: no such kernel"),
        ("memory", "MemoryError: cannot allocate 80 GiB"),
        ("leave", "SystemExit: 4"),
        ("base", "BaseException: not an Exception"),
        ("nan", "accuracy is nan"),
    ],
)
@pytest.mark.parametrize("kind", [Misbehaving, Shared])
def test_a_candidate_that_fails_does_not_end_the_run(tmp_path: Path, how: str, reason: str, kind: type) -> None:
    evaluator = {"name": kind, "how": how, "numbers": [3, 7]}
    result = run(search_only(evaluator, batch=5), tmp_path / "run")
    found = trials(tmp_path / "run").trials
    assert {n: t.error for n, t in found.items() if t.state == "failed"} == {3: reason, 7: reason}
    assert len(found) == 20
    assert result.best.number not in (3, 7)


def test_a_candidate_without_the_objective_has_failed(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"'accuracy' was not measured, only acuracy"):
        run(search_only(Forgetful, max_failures=2), tmp_path / "run")
    assert [t.state for t in trials(tmp_path / "run").trials.values()] == ["failed", "failed"]


def test_too_many_failures_in_a_row_end_it(tmp_path: Path) -> None:
    evaluator = {"name": Misbehaving, "how": "raise", "numbers": list(range(5, 20))}
    with pytest.raises(EvaluationError, match=r"4 trials in a row failed in the stage 'search'.*no such kernel"):
        run(search_only(evaluator, max_failures=4), tmp_path / "run")
    assert len(trials(tmp_path / "run").trials) == 9


@pytest.mark.process
@pytest.mark.parametrize("how", ["die", "exit"])
def test_a_candidate_that_kills_its_process_is_failed_after_two_attempts(tmp_path: Path, how: str) -> None:
    """In-process: the first attempt takes the run with it, the second is made in a worker process."""
    lives = tmp_path / "lives"
    settings = search_only({"name": Misbehaving, "how": how, "numbers": [4], "lives": str(lives)})
    pid = in_child(partial(run, settings, tmp_path / "run"), quiet=True)
    assert os.waitpid(pid, 0)[1] != 0
    run(settings, tmp_path / "run")
    assert lives.read_text() == "4\n4\n"
    found = trials(tmp_path / "run").trials
    assert [n for n, t in found.items() if t.state == "failed"] == [4]
    assert "ended with the process 2 times" in found[4].error
    assert len(found) == 20


@pytest.mark.process
def test_those_that_were_started_with_a_candidate_that_kills_its_process_are_unharmed(tmp_path: Path) -> None:
    """Quick ones are recorded as started together, so all of them are suspects, and one of them is to blame."""
    lives = tmp_path / "lives"
    settings = search_only({"name": Misbehaving, "how": "die", "numbers": [9], "lives": str(lives)}, batch=20)
    pid = in_child(partial(run, settings, tmp_path / "run"), quiet=True)
    assert os.waitpid(pid, 0)[1] != 0
    attempts = trials(tmp_path / "run").attempts
    assert attempts[9].started == 1
    run(settings, tmp_path / "run")
    assert lives.read_text() == "9\n9\n"
    found = trials(tmp_path / "run").trials
    assert [n for n, t in found.items() if t.state == "failed"] == [9]
    run(search_only({"name": Misbehaving, "how": "die", "numbers": []}, batch=20), tmp_path / "unharmed")
    for number, trial in trials(tmp_path / "unharmed").trials.items():
        assert trial.architecture == found[number].architecture
        assert number == 9 or trial.metrics == found[number].metrics


@pytest.mark.process
def test_worker_processes_survive_a_candidate_that_kills_them(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    settings = search_only({"name": Misbehaving, "how": "die", "numbers": [4], "lives": str(lives)}, ahead=4)
    run({**settings, "executor": {"name": "processes", "workers": 2}}, tmp_path / "run")
    assert lives.read_text() == "4\n4\n"
    found = trials(tmp_path / "run").trials
    assert [n for n, t in found.items() if t.state == "failed"] == [4]
    assert "signal 9" in found[4].error
    assert len(found) == 20


@pytest.mark.process
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("interrupt", "KeyboardInterrupt:"),
        ("base", "BaseException: not an Exception"),
        ("leave", "SystemExit: 4"),
    ],
)
def test_no_exception_of_a_candidate_in_a_worker_ends_the_run(tmp_path: Path, how: str, reason: str) -> None:
    settings = search_only({"name": Misbehaving, "how": how, "numbers": [2]})
    run({**settings, "executor": "processes"}, tmp_path / "run")
    recorded = trials(tmp_path / "run").trials
    assert {n: t.error for n, t in recorded.items() if t.state == "failed"} == {2: reason}
    assert len(recorded) == 20


@pytest.mark.process
def test_an_evaluation_that_hangs_is_stopped(tmp_path: Path) -> None:
    settings = search_only({"name": Misbehaving, "how": "hang", "numbers": [2]}, timeout=1.0)
    run({**settings, "executor": "processes"}, tmp_path / "run")
    found = trials(tmp_path / "run").trials
    assert {n: t.error for n, t in found.items() if t.state == "failed"} == {2: "stopped after its timeout of 1 s"}


@pytest.mark.slow
@pytest.mark.process
def test_the_same_trials_with_any_number_of_workers(tmp_path: Path) -> None:
    """A whole run: supernet, search with inherited weights, final stage."""
    runs = []
    for workers in (0, 1, 2, 3):
        executor: Any = {"name": "processes", "workers": workers} if workers else "in_process"
        run(config(executor=executor), tmp_path / str(workers))
        runs.append(record(tmp_path / str(workers)))
    assert runs[0] == runs[1] == runs[2] == runs[3]


@pytest.mark.process
def test_arrival_in_any_order_changes_nothing(tmp_path: Path) -> None:
    settings = search_only(Slow, batch=2, ahead=6, strategy={"name": "aging", "population": 5, "sample_size": 2})
    run(settings, tmp_path / "in-process")
    run({**settings, "executor": {"name": "processes", "workers": 3}}, tmp_path / "processes")
    assert record(tmp_path / "in-process")["trials"] == record(tmp_path / "processes")["trials"]


@pytest.mark.slow
@pytest.mark.process
def test_killing_the_run_while_workers_work(tmp_path: Path) -> None:
    settings = {**search_only(Slow, batch=2, ahead=6), "executor": {"name": "processes", "workers": 2}}
    run(settings, tmp_path / "left-alone")
    out = tmp_path / "killed"
    pid = in_child(partial(run, settings, out))
    while len(trials(out).trials if (out / "trials.jsonl").exists() else ()) < 8:
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert len(trials(out).trials) < 20
    run(settings, out)
    assert record(out)["trials"] == record(tmp_path / "left-alone")["trials"]


@pytest.mark.process
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    settings = search_only({"name": Misbehaving, "how": "hang", "numbers": [1]})
    pid = in_child(partial(run, settings, tmp_path / "run"))
    while not (tmp_path / "run" / "trials.jsonl").exists():
        time.sleep(0.01)
    try:
        with pytest.raises(RunDirectoryError, match=rf"is in use by process {pid} on .*; wait for it"):
            run(settings, tmp_path / "run")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_an_orderly_stop_is_resumable_and_no_attempt(tmp_path: Path) -> None:
    """SIGTERM, as a cluster sends it: the run ends at a safe point, by itself."""
    settings = search_only(Slow)

    def stop_at_6(event: TrialFinished) -> None:
        if event.trial.number == 6:
            signal.raise_signal(signal.SIGTERM)

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(RunInterrupted, match="resume=True"):
        run(settings, tmp_path / "stopped", handlers={TrialFinished: stop_at_6})
    assert 7 <= len(trials(tmp_path / "stopped").trials) < 20
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    run(settings, tmp_path / "stopped")
    run(settings, tmp_path / "left-alone")
    assert record(tmp_path / "stopped")["trials"] == record(tmp_path / "left-alone")["trials"]


@pytest.mark.process
def test_a_damaged_ledger_line_is_named_and_its_trial_evaluated_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {**search_only(Free), "checkpoint_seconds": 0.0}
    run(settings, tmp_path / "run")
    expected = record(tmp_path / "run")["trials"]
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"finished","number":5,' in line)
    lines[place] = lines[place].replace(b'"complete"', b'"comqlete"')
    path.write_bytes(b"".join(lines))
    (tmp_path / "run" / "result.json").unlink()
    run(settings, tmp_path / "run")
    assert f"trials.jsonl, line {place + 1} (trial 5): damaged" in caplog.text
    found = trials(tmp_path / "run")
    assert not found.damage
    again = [
        json.loads(line) for line in path.read_text().splitlines() if '"finished"' in line and '"comqlete"' not in line
    ]
    assert [
        {k: v for k, v in e.items() if k not in ("event", "crc", "seconds", "time")}
        for e in sorted(again, key=lambda e: e["number"])
    ] == expected


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = config()
    run(settings, tmp_path / "run")
    expected = record(tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[100] ^= 1
    newest.write_bytes(bytes(content))
    (tmp_path / "run" / "result.json").unlink()
    run(settings, tmp_path / "run")
    assert f"{newest} is damaged" in caplog.text
    assert record(tmp_path / "run") == expected


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a complete search of two stages with checkpoints."""
    out = tmp_path_factory.mktemp("faults") / "run"
    run({**two_searches(), "checkpoint_seconds": 0.0}, out)
    return out


def two_searches() -> dict[str, Any]:
    settings = search_only(Free, strategy={"name": "evolution", "population": 6, "generations": 3, "top_k": 3})
    return {**settings, "stages": [{**settings["stages"][0], "name": "first"}, *settings["stages"]]}


PENDING = {"number": 10**6, "architecture": {}, "fidelity": None, "info": {}}
JUNK: dict[str, Any] = {
    "a list": lambda good: [1, 2],
    "nothing": lambda good: {},
    "a number": lambda good: 7,
    "text as the strategy's state": lambda good: {**good, "strategy": "text"},
    "an empty state": lambda good: {**good, "strategy": {}},
    "a state of numbers": lambda good: {**good, "strategy": dict.fromkeys(good["strategy"], 7)},
    "a later stage": lambda good: {**good, "stage": 99},
    "a stage that is text": lambda good: {**good, "stage": "search"},
    "a negative stage": lambda good: {**good, "stage": -1},
    "more trials than exist": lambda good: {**good, "next_number": 10**6},
    "junk in evaluation": lambda good: {**good, "pending": ["junk"]},
    "another space's trial": lambda good: {**good, "pending": [{**PENDING, "architecture": {"width": 3}}]},
    "a trial of wrong values": lambda good: {**good, "pending": [{**PENDING, "architecture": {"2": [[]]}}]},
    "results that nobody recorded": lambda good: {**good, "uncollected": [999]},
    "NaN seconds": lambda good: {**good, "seconds": float("nan")},
    "metrics beyond the file": lambda good: {**good, "metrics": 10**12},
    "a tensor as steps": lambda good: {**good, "steps": torch.zeros(3)},
}


@pytest.mark.parametrize("kind", JUNK)
def test_a_checkpoint_with_a_right_digest_and_wrong_content_is_named_and_the_previous_one_used(
    searched: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(searched, out)
    (out / "result.json").unlink()
    *_, newest = sorted((out / "checkpoints").iterdir())
    content = io.BytesIO()
    torch.save(JUNK[kind](torch.load(newest, weights_only=True)), content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    junk = out / "checkpoints" / f"00009999-{digest}.pt"
    junk.write_bytes(content.getvalue())
    run({**two_searches(), "checkpoint_seconds": 0.0}, out)
    assert f"checkpoint {junk} " in caplog.text
    assert "the previous good one is used" in caplog.text
    assert record(out) == record(searched)


def test_resuming_with_another_configuration_is_refused(tmp_path: Path) -> None:
    run(search_only(Free), tmp_path / "run")
    message = (
        r"was begun with stages\[0\]\.budget\.trials: 20, and is to be resumed with 21; use the same configuration, or "
        "another directory$"
    )
    with pytest.raises(RunDirectoryError, match=message):
        run(search_only(Free, budget={"trials": 21}), tmp_path / "run")


def test_a_directory_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty, and nothing in it is ever overwritten; choose another"):
        run(search_only(Free), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    run(search_only(Free), tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="resume=True"):
        automl_nas.search(search_only(Free), out=tmp_path / "run")


def test_a_full_disk_ends_the_run_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"

    def fill(event: TrialFinished) -> None:
        if event.trial.number == 5:
            monkeypatch.setattr("automl_nas.run.record.directory.os.fsync", full)
            monkeypatch.setattr("automl_nas.run.record.ledger.os.fsync", full)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    settings = {**search_only(Free), "checkpoint_seconds": 0.0}
    with pytest.raises(RunFailedError, match="disk is full; free some space and resume"):
        run(settings, out, handlers={TrialFinished: fill})
    monkeypatch.undo()
    assert 6 <= len(trials(out).trials) < 20
    run(settings, out)
    run(settings, tmp_path / "left-alone")
    assert record(out)["trials"] == record(tmp_path / "left-alone")["trials"]


class FullDisk:
    """A file of the ledger on a disk that takes a number of writes, and no more."""

    def __init__(self, file: Any, writes: int) -> None:
        self._file, self._writes = file, writes

    def write(self, text: bytes) -> int:
        self._writes -= 1
        if self._writes < 0:
            raise OSError(28, "No space left on device")
        written: int = self._file.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.process
@pytest.mark.parametrize("writes", range(2, 7))
@pytest.mark.parametrize("kind", [Free, Shared])
def test_resuming_on_a_disk_that_is_still_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type, writes: int
) -> None:
    """Whichever line cannot be written: the run ends, and no candidate is FAILED for it."""
    out, left = tmp_path / "run", [writes]
    evaluator = {"name": kind, "how": "raise", "numbers": []} if kind is Shared else kind
    settings = search_only(evaluator, batch=5)
    read = Ledger.__init__

    def on_full_disk(ledger: Ledger, path: Path, *, writable: bool, follows: bool = False) -> None:
        read(ledger, path, writable=writable, follows=follows)
        if writable:
            ledger._file = FullDisk(ledger._file, left.pop() if left else 0)  # type: ignore[assignment]

    monkeypatch.setattr(Ledger, "__init__", on_full_disk)
    for _ in range(3):
        with pytest.raises(RunFailedError, match=r"cannot write .*trials\.jsonl: the disk is full; free some space"):
            run(settings, out)
    monkeypatch.undo()
    assert "an earlier process died" not in caplog.text
    assert len(trials(out).trials) < 20
    run(settings, out)
    assert [trial.state for trial in trials(out).trials.values()] == ["complete"] * 20
    run(settings, tmp_path / "left-alone")
    assert record(out)["trials"] == record(tmp_path / "left-alone")["trials"]
