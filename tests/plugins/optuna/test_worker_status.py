"""``automl-nas workers``: who evaluates what since when, rates and deaths; and the worker that each trial records."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from plugins.optuna.queue_runs import RUN_QUEUE, begin, forget_plugins, install_plugin, work
from plugins.optuna.test_workers import CANDIDATE, joined, opened

from automl_nas import __version__
from automl_nas.errors import UserError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.run.record.ledger import Ledger
from automl_nas.strategy.trial import Trial
from automl_nas_optuna.commands import workers as command
from automl_nas_optuna.storages import StorageError
from automl_nas_optuna.workers import presence as presence_module, status as status_module, worker as worker_module
from automl_nas_optuna.workers.presence import Presence
from automl_nas_optuna.workers.queue import HEARTBEAT, LEFT, OUTCOME, WORKER, Entry, Queue, delivered

NOW = 1_000_000.0


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install_plugin(tmp_path, monkeypatch)
    yield
    forget_plugins()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock that the records of workers and of evaluations use."""

    class Clock:
        now = NOW

    for module in (presence_module, status_module):
        monkeypatch.setattr(module.time, "time", lambda: Clock.now)
    return lambda seconds: setattr(Clock, "now", NOW + seconds)


def joining(queue: Queue, process: int, grace: float = 60.0) -> Presence:
    worker = {"host": "gpu3", "process": process, "device": "cuda:1", "versions": {"torch": "2.13.0"}}
    presence = Presence(worker, grace)
    presence.join(queue)
    return presence


def claimed(queue: Queue, presence: Presence, since: float) -> Entry:
    entry = queue.claim()
    assert entry is not None
    queue.note(entry.key, **{WORKER: {"key": presence.key, "name": presence.name, "since": NOW + since}})
    return entry


def finished(queue: Queue, entry: Entry) -> None:
    queue.note(entry.key, **{OUTCOME: delivered(Outcome(entry.request["number"], {"accuracy": 1.0}))})
    assert queue.end(entry.key, complete=True)


def shown(storage: str, *options: str) -> Any:
    result = CliRunner().invoke(command, [storage, "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_states_rates_and_deaths_are_those_of_a_known_history(tmp_path: Path, at: Callable[[float], None]) -> None:
    """Four workers: one is busy, one is idle, one died twice, one left and returned its evaluation."""
    storage = str(tmp_path / "queue.journal")
    executor = opened(tmp_path, [], grace=100.0)
    for number in range(9):
        executor.submit(Request(number, CANDIDATE, seed=1))
    assert executor.next() is None
    queue = joined(tmp_path)
    at(0)
    busy, idle, dead, gone = (joining(queue, process, grace=100.0) for process in (1, 2, 3, 4))
    for _ in range(2):  # trials 0 and 1: this worker counted as dead
        assert queue.end(claimed(queue, dead, since=10).key, complete=False)
    entry = claimed(queue, gone, since=10)  # trial 2
    queue.note(entry.key, **{LEFT: True})
    queue.end(entry.key, complete=False)
    at(20)
    gone.leave(queue)
    for second in (100, 200, 300):  # trials 3, 4 and 5
        entry = claimed(queue, busy, since=second - 50)
        at(second)
        finished(queue, entry)
    entry = claimed(queue, busy, since=310)  # trial 6
    queue.note(entry.key, **{HEARTBEAT: NOW + 390})
    assert queue.end(queue.entries()[8].key, complete=False)  # trial 8: withdrawn by the run
    queue.seen(idle.key, NOW + 350)
    at(400)
    (status,) = shown(storage)
    counts = {name: status[name] for name in ("running", "waiting", "complete", "returned", "withdrawn", "deaths")}
    assert counts == {"running": 1, "waiting": 1, "complete": 3, "returned": 1, "withdrawn": 1, "deaths": 2}
    assert status["per_hour"] == pytest.approx(27.0)  # three in 400 s
    assert status["directory"] == str(tmp_path)
    assert [
        (
            worker["worker"]["process"],
            worker["state"],
            worker["trial"],
            worker["since"],
            worker["last_sign"] - NOW,
            worker["complete"],
            worker["deaths"],
        )
        for worker in status["workers"]
    ] == [
        (1, "busy", 6, NOW + 310, 390.0, 3, 0),
        (2, "idle", None, None, 350.0, 0, 0),
        (3, "silent", None, None, 10.0, 0, 2),
        (4, "left", None, None, 20.0, 0, 0),
    ]
    assert status["workers"][0]["per_hour"] == pytest.approx(27.0)
    assert status["workers"][0]["worker"]["versions"] == {"torch": "2.13.0"}
    lines = CliRunner().invoke(command, [storage]).output.splitlines()
    assert lines[0] == (
        f"{queue.name} ({tmp_path}): 1 running, 1 waiting, 3 complete, 27 an hour; workers: 3 present, 1 left, 2 deaths"
    )
    assert [line.split("  ")[1] for line in lines[2:]] == [f"process {n} on gpu3 (cuda:1)" for n in (1, 2, 3)]
    cells = [cell.strip() for cell in lines[2].split("  ") if cell.strip()]
    assert cells[1:] == ["busy: trial 6", "1 min 30 s", "10 s", "6 min 40 s", "3", "27", "0"]
    # Two hours later, nothing was delivered in the last hour, and nobody gave a sign of life.
    at(7600)
    (status,) = shown(storage)
    assert status["per_hour"] == 0.0
    assert [worker["state"] for worker in status["workers"]] == ["silent", "silent", "silent", "left"]
    queue.close()
    executor.close()


def test_the_queues_of_several_runs_and_of_a_run_that_ended_are_shown(tmp_path: Path) -> None:
    storage = str(tmp_path / "queue.journal")
    for name in ("first/queue", "second/queue"):
        Queue(storage, name).create({"run": name, "directory": f"runs/{name}"})
    assert [status["name"] for status in shown(storage)] == ["first/queue", "second/queue"]
    ended = Queue(storage, "first/queue")
    ended.join()
    ended.close(finished=True)
    assert [status["name"] for status in shown(storage)] == ["second/queue"]
    assert [status["directory"] for status in shown(storage, "--study", "first/queue")] == ["runs/first/queue"]


def test_a_storage_without_queues_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.journal").touch()
    for arguments, message in (
        ([str(tmp_path / "empty.journal")], "no run has an open queue in this storage"),
        ([str(tmp_path / "empty.journal"), "--study", "x/queue"], "has no study 'x/queue'"),
        ([f"sqlite:///{tmp_path}/nowhere/queue.db"], "queue.db does not exist"),
        ([f"sqlite:///{tmp_path}"], "cannot be reached"),
    ):
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, UserError)
        assert message in str(result.exception)


def test_trials_record_the_worker_that_measured_them(plugins: None, tmp_path: Path) -> None:
    """From the worker through storage, executor, ledger and `show` of the run."""
    storage = str(tmp_path / "queue.journal")
    _, executor = begin(tmp_path, storage)
    work(storage, idle=0.0)
    work(storage)
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    worker = outcome.worker
    assert (worker["host"], worker["process"], worker["device"]) == (socket.gethostname(), os.getpid(), "cpu")
    versions: Any = worker["versions"]
    assert versions["torch"] == torch.__version__
    assert versions["python"] == platform.python_version()
    assert versions["automl-nas"] == __version__
    (status,) = shown(storage)
    assert [worker["state"] for worker in status["workers"]] == ["left", "left"]
    assert [worker["complete"] for worker in status["workers"]] == [0, 1]
    executor.close()


def test_the_ledger_keeps_the_worker_and_has_no_entry_without_one(tmp_path: Path) -> None:
    worker = {"host": "gpu3", "process": 7, "device": "cuda:0", "versions": {"torch": "2.13.0"}}
    ledger = Ledger(tmp_path / "trials.jsonl", writable=True)
    ledger.finished([Trial(0, CANDIDATE, worker=worker), Trial(1, CANDIDATE)])
    ledger.close()
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert [line.get("worker") for line in lines] == [worker, None]
    trials = Ledger(tmp_path / "trials.jsonl", writable=False).trials
    assert [dict(trials[number].worker) for number in (0, 1)] == [worker, {}]


def test_an_outage_is_not_idleness(plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose storage was down for longer than ``--idle`` still takes what is there when it is back."""
    storage = str(tmp_path / "queue.journal")
    _, executor = begin(tmp_path, storage)
    now = [0.0]
    failures = iter(range(3))
    claim = Queue.claim

    def down(self: Queue) -> Entry | None:
        if next(failures, None) is not None:
            raise StorageError("down")
        return claim(self)

    def sleep(seconds: float) -> None:
        now[0] += 100.0

    monkeypatch.setattr(Queue, "claim", down)
    monkeypatch.setattr(worker_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(worker_module.time, "sleep", sleep)
    worker = worker_module.Worker(storage, RUN_QUEUE, idle=150.0, wait=0.0, say=lambda line: None)
    worker.run()
    assert worker.evaluated == 1
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.state is State.COMPLETE
    executor.close()


def test_show_prints_the_worker_of_a_trial(tmp_path: Path) -> None:
    from automl_nas.cli.show import _trial

    trial = Trial(0, CANDIDATE, worker={"host": "gpu3", "process": 7, "device": "cpu", "versions": {}})
    assert _trial(trial)["worker"] == {"host": "gpu3", "process": 7, "device": "cpu", "versions": {}}
    assert _trial(Trial(1, CANDIDATE))["worker"] is None
