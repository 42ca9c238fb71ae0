"""`Worker`: takes evaluations from a queue, one at a time, until it has been idle for too long."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

from automl_nas.errors import AutoMLNASError, ConfigurationError, RunInterrupted
from automl_nas.evaluation import Outcome, State
from automl_nas.run import StageWorker, WorkerRuntime, describe_worker
from automl_nas_optuna.storages import StorageError
from automl_nas_optuna.workers.heartbeat import Heartbeat
from automl_nas_optuna.workers.presence import GRACE, Presence
from automl_nas_optuna.workers.queue import (
    ERROR,
    LEFT,
    OUTCOME,
    TERMS,
    WORKER,
    Entry,
    NoQueueError,
    Queue,
    delivered,
    open_queues,
)

_log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Seconds between two reads of an empty queue."""

MAX_RETRY_SECONDS = 30.0
"""The maximum number of seconds between two attempts to reach a storage that is down."""

T = TypeVar("T")


@final
class Worker:
    """Evaluates the requests that a run puts into a queue.

    Args:
        storage: see `open_storage`.
        study: the name of the queue; None: the one that is open.
        idle: seconds without an evaluation after which the worker ends.
        wait: seconds to wait at the start for a storage that is down and for a run that has not begun.
        runtime: the device and the threads.
        directory: the path of the run directory on this machine; None: the same path as on the run's machine.
        say: called with each line for the user.

    Attributes:
        evaluated: the number of outcomes delivered.
        name: how the worker is called in messages and in the queue.
    """

    def __init__(
        self,
        storage: str,
        study: str | None,
        *,
        idle: float,
        wait: float = 600.0,
        runtime: WorkerRuntime | None = None,
        directory: Path | None = None,
        say: Callable[[str], None] = _log.info,
    ) -> None:
        self._storage, self._study, self._idle, self._wait, self._directory = storage, study, idle, wait, directory
        self._requested, self._say = runtime or WorkerRuntime(), say
        # The section ``runtime`` of this worker, once it has joined a queue.
        self._runtime: Mapping[str, Any] = {}
        self._stage: tuple[int, StageWorker] | None = None
        self._last = time.monotonic()  # the end of the last evaluation or outage
        self.name = f"process {os.getpid()} on {socket.gethostname()}"
        self.evaluated = 0

    def run(self) -> None:
        """Evaluate until the queue has been empty for `idle` seconds.

        Raises:
            RunInterrupted: the worker was asked to stop; it has returned its evaluation to the queue.
            ConfigurationError: no queue is open, or several are open and none is named; or the run's configuration
                cannot be used on this machine: it lacks the device, or has another space, data or version of a plugin.
            StorageError: the storage cannot be reached at the start.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            queue = self._join()
        except KeyboardInterrupt:
            raise RunInterrupted("stopped before a run began") from None
        presence = self._presence
        heartbeat = Heartbeat(self._storage, queue.name, presence)
        entry: Entry | None = None
        try:
            self._last = time.monotonic()
            while time.monotonic() - self._last < self._idle:
                entry = self._retry(queue, queue.claim)
                if entry is None:
                    self._retry(queue, partial(presence.seen, queue))
                    time.sleep(POLL_SECONDS)
                    continue
                heartbeat.start(entry)
                claim = {"key": presence.key, "name": presence.name, "since": time.time()}
                self._retry(queue, partial(queue.note, entry.key, **{WORKER: claim}))
                self._evaluate(queue, entry, heartbeat)
                heartbeat.stop()
                entry, self._last = None, time.monotonic()
        except KeyboardInterrupt:
            raise RunInterrupted("stopped; an unfinished evaluation was returned to the queue") from None
        finally:
            heartbeat.stop()
            with suppress(StorageError, ConfigurationError):  # the run then notices after its grace period
                if entry is not None:
                    queue.note(entry.key, **{LEFT: True})
                    queue.end(entry.key, complete=False)
                presence.leave(queue)
            queue.close()
            heartbeat.close()

    def _join(self) -> Queue:
        """Open the queue; wait for the storage and the run. Check that this machine has the device of the run."""
        name = self._until_reached(lambda: self._study or find_queue(self._storage))
        queue = Queue(self._storage, name)
        try:
            description = self._until_reached(queue.join)
            self._runtime = self._requested.settings(description)
            self._presence = Presence(describe_worker(self._runtime["device"]), description.get("grace", GRACE))
            self._retry(queue, partial(self._presence.join, queue))
        except BaseException:
            queue.close()
            raise
        count = self._runtime["threads"]
        threads = f"{count} CPU thread{'s' if count > 1 else ''}"
        self._say(f"{self._presence.name}, {threads}: evaluates for {description['directory']} (queue {queue.name})")
        return queue

    def _evaluate(self, queue: Queue, entry: Entry, heartbeat: Heartbeat) -> None:
        # Constructing an evaluator may take long (it may read a data set); the timeout is for evaluations only.
        stage = self._stage_worker(queue, entry.request["stage"])
        number = entry.request["number"]
        heartbeat.limit(entry.attributes[TERMS]["timeout"])
        try:
            outcome = stage.evaluate(entry.request)
            attributes: dict[str, Any] = {OUTCOME: delivered(outcome)}
            self._say(f"trial {number}: {_summary(outcome)}")
        except (AutoMLNASError, TypeError) as error:  # a TypeError: the evaluator breaks its contract
            attributes = {ERROR: str(error)}
            self._say(f"trial {number}: {error}")
        finally:
            heartbeat.limit(None)
        self._retry(queue, lambda: queue.note(entry.key, **attributes))
        accepted = self._retry(queue, lambda: queue.end(entry.key, complete=True))
        self.evaluated += accepted
        if not accepted:
            self._say(f"trial {number}: the run no longer waits for this evaluation; the outcome is dropped")

    def _stage_worker(self, queue: Queue, stage: int) -> StageWorker:
        if self._stage is None or self._stage[0] != stage:
            description = {**self._retry(queue, queue.join), "stage": stage}
            self._stage = stage, StageWorker(description, self._runtime, self._directory, self._presence.worker)
        return self._stage[1]

    def _until_reached(self, call: Callable[[], T]) -> T:
        """Repeat a call until the storage responds and the queue exists, at most `wait` seconds."""
        begun, pause, reason = time.monotonic(), POLL_SECONDS, ""
        while True:
            try:
                return call()
            except (StorageError, NoQueueError) as error:
                left = begun + self._wait - time.monotonic()
                if left <= 0:
                    raise
                if str(error) != reason:
                    self._say(f"{self.name} waits up to {left:.0f} s (--wait): {error}")
                    reason = str(error)
                pause = min(2 * pause, MAX_RETRY_SECONDS) if isinstance(error, StorageError) else POLL_SECONDS
                time.sleep(min(pause, left))

    def _retry(self, queue: Queue, call: Callable[[], T]) -> T:
        """Repeat a call until the storage responds, so that a finished evaluation is not lost."""
        pause, down = POLL_SECONDS, False
        while True:
            try:
                result = call()
            except StorageError as error:
                if not down:
                    _log.warning("%s; the worker waits until it is back", error)
                down, pause = True, min(pause * 2, MAX_RETRY_SECONDS)
                queue.drop_connection()
                time.sleep(pause)
            else:
                if down:
                    _log.warning("the Optuna storage is back")
                    self._last = time.monotonic()  # an outage is not the worker's idleness
                return result


def find_queue(storage: str) -> str:
    """Return the name of the open queue.

    Args:
        storage: see `open_storage`.

    Raises:
        NoQueueError: no queue is open.
        ConfigurationError: several queues are open.
        StorageError: the storage cannot be reached.
    """
    names = open_queues(storage)
    if len(names) > 1:
        raise ConfigurationError(
            f"several runs use this storage; select the queue of one with --study: {', '.join(names)}"
        )
    if not names:
        raise NoQueueError(
            "no run has opened a queue in this storage; start one with executor: {name: optuna, storage: ...}"
        )
    return names[0]


def _summary(outcome: Outcome) -> str:
    if outcome.state is State.FAILED:
        return f"failed after {outcome.seconds:.3g} s: {outcome.error}"
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in outcome.metrics.items())
    return f"{metrics or outcome.state.value} in {outcome.seconds:.3g} s"
