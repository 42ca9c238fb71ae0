"""What a worker does at the start, during an evaluation, and when the storage is down."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plugins.optuna.queue_runs import RUN_QUEUE, begin, forget_plugins, install_plugin, work
from plugins.optuna.test_workers import CANDIDATE, joined, opened

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas_optuna.storages import StorageError, close, open_storage
from automl_nas_optuna.workers import worker as worker_module
from automl_nas_optuna.workers.heartbeat import Heartbeat
from automl_nas_optuna.workers.presence import Presence
from automl_nas_optuna.workers.queue import HEARTBEAT, NoQueueError, Queue
from automl_nas_optuna.workers.status import queue_statuses

PRESENCE = Presence({"host": "gpu3", "process": 7, "device": "cuda:1", "versions": {}}, grace=60.0)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    install_plugin(tmp_path, monkeypatch)
    yield
    forget_plugins()


def test_heartbeats_begin_at_the_claim_while_the_evaluator_is_constructed(
    plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = str(tmp_path / "queue.journal")
    _, executor = begin(tmp_path, storage, grace=0.3)
    beats: list[object] = []
    construct = StageEvaluator.__call__

    def slow(source: Any) -> Any:
        # Longer than the grace period: without heartbeats the run would repeat the evaluation.
        queue = Queue(storage, RUN_QUEUE)
        queue.join()
        end = time.monotonic() + 60.0
        while len(set(beats)) < 10 and time.monotonic() < end:
            assert executor.next() is None
            beats.append(queue.entries()[0].attributes.get(HEARTBEAT))
        assert len(queue.entries()) == 1, "the worker counts as dead"
        queue.close()
        return construct(source)

    monkeypatch.setattr(StageEvaluator, "__call__", slow)
    lines = work(storage)
    assert len(set(beats)) == 10
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.number == 0
    assert [line.partition(":")[0] for line in lines[1:]] == ["trial 0"]
    executor.close()


def test_one_thread_sends_all_heartbeats(tmp_path: Path) -> None:
    executor = opened(tmp_path, [], grace=0.06)
    for number in range(3):
        executor.submit(Request(number, CANDIDATE, seed=1))
    assert executor.next() is None
    queue = joined(tmp_path)
    heartbeat = Heartbeat(str(tmp_path / "queue.journal"), queue.name, PRESENCE)
    threads: set[int] = set()
    note = heartbeat._queue.note

    def slow_note(key: int, **attributes: object) -> None:
        threads.add(threading.get_ident())
        time.sleep(0.05)  # the next evaluation begins while this heartbeat is being sent
        note(key, **attributes)

    heartbeat._queue.note = slow_note  # type: ignore[method-assign]
    for _ in range(3):
        entry = queue.claim()
        assert entry is not None
        heartbeat.start(entry)
        while HEARTBEAT not in queue.read({entry.key})[entry.key].attributes:
            time.sleep(0.01)
        heartbeat.stop()
    assert len(threads) == 1
    heartbeat.close()
    queue.close()
    executor.close()


def test_a_timeout_waits_for_a_storage_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = opened(tmp_path, [], grace=0.06)
    executor.submit(Request(0, CANDIDATE, seed=1))
    assert executor.next() is None
    queue = joined(tmp_path)
    entry = queue.claim()
    assert entry is not None
    heartbeat = Heartbeat(str(tmp_path / "queue.journal"), queue.name, PRESENCE)
    restarted = threading.Event()

    def restart(*_: object) -> None:
        restarted.set()
        heartbeat._closed = True

    monkeypatch.setattr("automl_nas_optuna.workers.heartbeat.os.execv", restart)
    end, failures = heartbeat._queue.end, [StorageError("down"), StorageError("down")]

    def failing_end(key: int, *, complete: bool) -> bool:
        if failures:
            raise failures.pop()
        return end(key, complete=complete)

    heartbeat._queue.end = failing_end  # type: ignore[method-assign]
    heartbeat.start(entry)
    heartbeat.limit(0.01)
    assert restarted.wait(60.0)
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.error == "stopped after its timeout of 0.01 s"
    heartbeat.close()
    queue.close()
    executor.close()


def test_a_worker_waits_for_the_storage_and_the_run(
    plugins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "disk"
    storage = f"sqlite:///{folder}/queue.db"
    lines: list[str] = []
    executors = []

    def say(line: str) -> None:
        lines.append(line)
        if "does not exist" in line:
            assert not folder.exists()  # a mistyped path is not created
            folder.mkdir()
            close(open_storage(storage))
        if "no run has opened" in line:
            executors.append(begin(tmp_path, storage)[1])

    worker_module.Worker(storage, None, idle=0.3, wait=60.0, say=say).run()
    assert [line.partition("(--wait): ")[2].partition(" ")[0] for line in lines[:2]] == ["the", "no"]
    assert re.search(r"waits up to \d+ s \(--wait\): the storage /.*queue.db does not exist; check the path", lines[0])
    assert [line.partition(":")[0] for line in lines[3:]] == ["trial 0"]
    (executor,) = executors
    assert isinstance(executor.next(), Outcome)
    executor.close()
    with pytest.raises(NoQueueError, match="no run has opened a queue"):
        work(storage)
    with pytest.raises(NoQueueError, match=r"has no study 'other/queue'; start the run"):
        worker_module.Worker(storage, "other/queue", idle=0.3, wait=0.0).run()
    with pytest.raises(StorageError, match="unable to open database file"):
        work(f"sqlite:///{tmp_path}")
    for missing in (f"sqlite:///{tmp_path}/typo.db", f"{tmp_path}/nowhere/queue.journal"):
        for study in (None, "my-1/queue"):
            with pytest.raises(NoQueueError, match="does not exist; check the path, or start the run"):
                worker_module.Worker(missing, study, idle=0.3, wait=0.0).run()
            with pytest.raises(NoQueueError, match="does not exist; check the path, or start the run"):
                queue_statuses(missing, study)
    assert not (tmp_path / "typo.db").exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_study_that_is_deleted_during_the_run_is_named(tmp_path: Path) -> None:
    import optuna

    from automl_nas_optuna.storages import open_storage

    executor = opened(tmp_path, [])
    executor.submit(Request(0, CANDIDATE, seed=1))
    assert executor.next() is None
    name = f"{tmp_path.name}/queue"
    optuna.delete_study(study_name=name, storage=open_storage(str(tmp_path / "queue.journal")))
    with pytest.raises(ConfigurationError, match=rf"the study '{name}' .* was deleted while it was used"):
        executor.next()
    assert executor.close() == [0]
