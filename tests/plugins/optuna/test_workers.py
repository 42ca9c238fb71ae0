"""The executor and its workers in separate processes, some of which are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from plugins.optuna.servers import grpc_proxy, postgresql
from plugins.optuna.worker_processes import configuration, entries, install, start, wait_until

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.plugin import TrialFinished
from automl_nas.plugin.manager import PluginManager
from automl_nas.run import read_request, serialize_outcome
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.space.architecture import Architecture
from automl_nas.testing import ToyEvaluator, ToySpace
from automl_nas_optuna.storages import StorageError
from automl_nas_optuna.workers.executor import OptunaExecutor
from automl_nas_optuna.workers.queue import (
    LEFT,
    OUTCOME,
    NoQueueError,
    Queue,
    open_queues,
)
from automl_nas_optuna.workers.worker import find_queue

KINDS = ["journal", "sqlite", "postgresql"]


@pytest.fixture(params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "journal":
        yield str(tmp_path / "queue.journal")
    elif request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/queue.db"
    elif request.param == "grpc":
        with grpc_proxy(f"sqlite:///{tmp_path}/queue.db") as address:
            yield address
    else:
        folder = tmp_path / "server"
        folder.mkdir()
        with postgresql(folder) as url:
            yield url


CLAIMER = """
import sys
import time
from automl_nas_optuna.workers.queue import Queue
queue = Queue(sys.argv[1], "q")
queue.join()
print("ready", flush=True)
sys.stdin.readline()
while (entry := queue.claim()) is not None:
    print(entry.request["number"], flush=True)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("storage", [*KINDS, "grpc"], indirect=True)
def test_an_evaluation_is_claimed_by_one_worker(storage: str) -> None:
    queue = Queue(storage, "q")
    queue.create({"run": "x"})
    for number in range(24):
        queue.put({"number": number}, {})
    command = [sys.executable, "-c", CLAIMER, storage]
    claimers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    claimed = [int(line) for claimer in claimers for line in claimer.communicate()[0].split()]
    assert sorted(claimed) == list(range(24))
    queue.close()


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_workers_trial_is_evaluated_by_another(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", environment["AUTOML_NAS_PLUGINS"])
    event_log = tmp_path / "event_log"
    workers = [start(environment, "worker", storage, "--idle", "600") for _ in range(2)]
    killed: list[int] = []

    def kill_one() -> bool:
        """Kill a worker during an evaluation; stop it first, so that the evaluation cannot end before the kill."""
        for worker in workers:
            if worker.pid in busy():
                worker.send_signal(signal.SIGSTOP)
                if worker.pid in busy():
                    worker.kill()
                    killed.append(worker.pid)
                    return True
                worker.send_signal(signal.SIGCONT)
        return False

    def busy() -> set[int]:
        return {process for _, process in set(entries(event_log, "begin")) - set(entries(event_log, "end"))}

    def kill_after_2(event: TrialFinished) -> None:
        if event.trial.number == 2:
            wait_until(kill_one)

    # Silence for 8 s: a worker that lives sends six heartbeats in this time, also on a busy machine.
    executor = {"name": "optuna", "storage": storage, "grace": 8.0, "poll": 0.05}
    try:
        manager = with_builtin(PluginManager().load())
        Session.start(
            configuration(event_log, executor, seconds=0.3, trials=10, ahead=4),
            tmp_path / "run",
            manager=manager,
            handlers={TrialFinished: kill_after_2},
        ).run()
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
            worker.communicate()
    assert len(killed) == 1
    trials = Ledger(tmp_path / "run" / "trials.jsonl", writable=False).trials
    assert {number: trial.state for number, trial in trials.items()} == dict.fromkeys(range(10), State.COMPLETE)
    begun, ended = entries(event_log, "begin"), entries(event_log, "end")
    assert sorted(number for number, _ in ended) == list(range(10)), "a trial was lost or evaluated twice"
    lost = [number for number, _ in set(begun) - set(ended)]
    assert sorted(number for number, _ in begun) == sorted([*range(10), *lost])
    assert len(lost) == 1
    assert set(begun) - set(ended) == {(lost[0], killed[0])}


class StubEvaluatorSource(StageEvaluator):
    """A source for an executor whose workers are simulated by the test."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def portable(self) -> dict[str, Any]:
        return {"config": {}, "directory": str(self._directory), "stage": 0}


SPACE = ToySpace(blocks=3, options=3)
CANDIDATE = Architecture({name: decision.options[0] for name, decision in SPACE.decisions.items()})


def opened(tmp_path: Path, begun: list[int], **settings: Any) -> OptunaExecutor:
    executor = OptunaExecutor(storage=str(tmp_path / "queue.journal"), poll=0.01, **settings)
    executor.open(StubEvaluatorSource(tmp_path), begun.extend, None)
    return executor


def answered(queue: Queue, accuracy: float) -> int:
    """Deliver an outcome for the oldest waiting evaluation, as a worker does; return the number of the trial."""
    entry = queue.claim()
    assert entry is not None
    number = read_request(entry.request, None).number
    queue.note(entry.key, **{OUTCOME: serialize_outcome(Outcome(number, {"accuracy": accuracy}))})
    assert queue.end(entry.key, complete=True)
    return number


def joined(tmp_path: Path) -> Queue:
    queue = Queue(str(tmp_path / "queue.journal"), f"{tmp_path.name}/queue")
    queue.join()
    return queue


def test_outcomes_delivered_while_the_run_was_dead_are_read(tmp_path: Path) -> None:
    begun: list[int] = []
    first = opened(tmp_path, begun)
    for number in range(3):
        first.submit(Request(number, CANDIDATE, seed=number))
    assert first.next() is None
    assert begun == [0, 1, 2]
    # The run is killed: nothing is closed. One outcome is delivered, one evaluation is going on, one is waiting.
    queue = joined(tmp_path)
    assert answered(queue, 0.5) == 0
    going = queue.claim()
    assert going is not None

    second = opened(tmp_path, begun)
    for number in range(3):
        assert second.resubmit(Request(number, CANDIDATE, seed=number))
    outcome = second.next()
    assert isinstance(outcome, Outcome)
    assert (outcome.number, outcome.metrics) == (0, {"accuracy": 0.5})
    assert begun == [0, 1, 2], "an evaluation was begun again"
    assert answered(queue, 0.25) == 2
    queue.note(going.key, **{OUTCOME: serialize_outcome(Outcome(1, {"accuracy": 1.0}))})
    queue.end(going.key, complete=True)
    numbers = {outcome.number for _ in range(4) if isinstance(outcome := second.next(), Outcome)}
    assert numbers == {1, 2}
    assert second.close() == []
    assert [entry.state for entry in queue.entries()] == [TrialState.COMPLETE] * 3


def test_a_slow_storage_does_not_keep_outcomes_from_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If sending one evaluation takes 6 s, the first outcome is read after one more is sent, not after 40."""
    begun: list[int] = []
    executor = opened(tmp_path, begun)
    executor.submit(Request(0, CANDIDATE, seed=0))
    assert executor.next() is None
    assert answered(joined(tmp_path), 0.5) == 0
    now = [time.monotonic()]
    put = Queue.put

    def slow(self: Queue, *arguments: Any) -> int:
        now[0] += 6.0
        return put(self, *arguments)

    monkeypatch.setattr(Queue, "put", slow)
    monkeypatch.setattr("automl_nas_optuna.workers.executor.time.monotonic", lambda: now[0])
    for number in range(1, 41):
        executor.submit(Request(number, CANDIDATE, seed=number))
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.number == 0
    assert begun == [0, 1]
    for number in range(2, 41):
        assert executor.next() is None
        assert begun == list(range(number + 1))
    assert sorted(executor.close()) == list(range(1, 41))


def test_outcomes_are_read_while_nothing_can_be_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A row of the study is locked by another connection: the outcomes that are there do not wait for it."""
    executor = opened(tmp_path, [])
    executor.submit(Request(0, CANDIDATE, seed=0))
    assert executor.next() is None
    assert answered(joined(tmp_path), 0.5) == 0

    def locked(self: Queue, *arguments: Any) -> int:
        raise StorageError("Lock wait timeout exceeded")

    with monkeypatch.context() as patched:
        patched.setattr(Queue, "put", locked)
        executor.submit(Request(1, CANDIDATE, seed=1))
        outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.number == 0
    assert "Lock wait timeout exceeded; the run waits until it is back" in caplog.text
    assert executor.next() is None
    assert "the Optuna storage is back" in caplog.text
    assert executor.close() == [1]


def test_a_worker_that_counts_as_dead_cannot_deliver(tmp_path: Path) -> None:
    executor = opened(tmp_path, [], grace=0.05, retries=1)
    executor.submit(Request(7, CANDIDATE, seed=1))
    assert executor.next() is None
    queue = joined(tmp_path)
    silent = queue.claim()
    assert silent is not None
    wait_until(lambda: executor.next() is None and len(queue.entries(TrialState.WAITING)) == 1)
    queue.note(silent.key, **{OUTCOME: serialize_outcome(Outcome(7, {"accuracy": 9.0}))})
    assert not queue.end(silent.key, complete=True)
    assert answered(queue, 0.5) == 7
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.metrics == {"accuracy": 0.5}
    executor.close()


def test_a_candidate_that_kills_every_worker_fails(tmp_path: Path) -> None:
    executor = opened(tmp_path, [], grace=0.05, retries=2)
    executor.submit(Request(0, CANDIDATE, seed=1))
    queue = joined(tmp_path)
    outcomes: list[Any] = []

    def ended() -> bool:
        queue.claim()
        outcomes.append(executor.next())
        return outcomes[-1] is not None

    wait_until(ended)
    assert outcomes[-1].state is State.FAILED
    assert outcomes[-1].error == "3 workers died while they evaluated it"
    executor.close()


def test_a_worker_that_leaves_does_not_count_as_dead(tmp_path: Path) -> None:
    executor = opened(tmp_path, [], retries=0)
    executor.submit(Request(0, CANDIDATE, seed=1))
    assert executor.next() is None
    queue = joined(tmp_path)
    for _ in range(3):
        entry = queue.claim()
        assert entry is not None
        queue.note(entry.key, **{LEFT: True})
        queue.end(entry.key, complete=False)
        assert executor.next() is None
    assert answered(queue, 0.5) == 0
    assert isinstance(executor.next(), Outcome)
    executor.close()


def test_waiting_evaluations_are_withdrawn_when_the_run_stops(tmp_path: Path) -> None:
    executor = opened(tmp_path, [])
    for number in range(2):
        executor.submit(Request(number, CANDIDATE, seed=number))
    assert executor.next() is None
    queue = joined(tmp_path)
    going = queue.claim()
    assert going is not None
    assert open_queues(str(tmp_path / "queue.journal")) == [queue.name]
    assert executor.close() == [0, 1]
    assert [entry.state for entry in queue.entries()] == [TrialState.RUNNING, TrialState.FAIL]
    assert open_queues(str(tmp_path / "queue.journal")) == []


def test_a_storage_that_goes_away_makes_the_run_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    executor = OptunaExecutor(storage=f"sqlite:///{folder}/queue.db", poll=0.01)
    executor.open(StubEvaluatorSource(tmp_path), lambda numbers: None, None)
    executor.submit(Request(0, CANDIDATE, seed=1))
    assert executor.next() is None
    executor._queue.drop_connection()
    folder.rename(tmp_path / "gone")
    assert executor.next() is None
    assert "unable to open database file; the run waits until it is back" in caplog.text
    (tmp_path / "gone").rename(folder)
    queue = Queue(f"sqlite:///{folder}/queue.db", f"{tmp_path.name}/queue")
    queue.join()
    assert answered(queue, 0.5) == 0
    assert isinstance(executor.next(), Outcome)
    executor.close()
    queue.close()


def test_invalid_executors_and_queues_are_refused(tmp_path: Path) -> None:
    address = str(tmp_path / "queue.journal")
    with pytest.raises(ConfigurationError, match="must be positive"):
        OptunaExecutor(storage=address, grace=0.0)
    executor = OptunaExecutor(storage=address, study="taken")
    (tmp_path / "other").mkdir()
    Queue(address, "taken").create({"run": "other"})
    with pytest.raises(ConfigurationError, match=r"the study 'taken' .* is the queue of another run"):
        executor.open(StubEvaluatorSource(tmp_path), lambda numbers: None, None)
    Queue(address, "second").create({"run": "other"})
    with pytest.raises(ConfigurationError, match=r"several runs .* --study: taken, second"):
        find_queue(address)
    (tmp_path / "empty.journal").touch()
    with pytest.raises(NoQueueError, match="no run has opened a queue"):
        find_queue(str(tmp_path / "empty.journal"))
    session = {
        "space": SPACE,
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "executor": {"name": "optuna", "storage": str(tmp_path / "objects.journal")},
        "stages": [{"name": "search", "strategy": "random", "evaluator": ToyEvaluator(SPACE), "budget": {"trials": 3}}],
    }
    with pytest.raises(ConfigurationError, match="other machines need a configuration of names"):
        Session.start(session, tmp_path / "run").run()
