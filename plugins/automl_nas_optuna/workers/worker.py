"""`Worker`: takes evaluations from a queue, one at a time, until it has been idle for too long."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, final

from automl_nas.errors import AutoMLNASError, ConfigurationError, RunInterrupted
from automl_nas.evaluation import Evaluator, Outcome, State
from automl_nas.run import StageEvaluator, evaluate_alone
from automl_nas_optuna.storages import StorageError
from automl_nas_optuna.workers.queue import (
    ERROR,
    HEARTBEAT,
    LEFT,
    OUTCOME,
    TERMS,
    WORKER,
    Entry,
    Queue,
    open_queues,
    read_request,
    serialize_outcome,
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
        directory: the path of the run directory on this machine; None: the same path as on the run's machine.

    Attributes:
        evaluated: the number of outcomes delivered.
    """

    def __init__(self, storage: str, study: str | None, *, idle: float, directory: Path | None = None) -> None:
        self._storage, self._study, self._idle, self._directory = storage, study, idle, directory
        self._stage: tuple[int, Evaluator, Path] | None = None
        self._name = f"process {os.getpid()} on {socket.gethostname()}"
        self.evaluated = 0

    def run(self) -> None:
        """Evaluate until the queue has been empty for `idle` seconds.

        Raises:
            RunInterrupted: the worker was asked to stop; it has returned its evaluation to the queue.
            ConfigurationError: no queue is open, or several are open and none is named; or the run's configuration
                cannot be used on this machine.
            StorageError: the storage cannot be reached at the start.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        queue = Queue(self._storage, self._study or find_queue(self._storage, self._idle))
        heartbeat = _Heartbeat(self._storage, queue.name)
        entry: Entry | None = None
        try:
            self._join(queue)
            last = time.monotonic()
            while time.monotonic() - last < self._idle:
                entry = self._retry(queue, queue.claim)
                if entry is None:
                    time.sleep(POLL_SECONDS)
                    continue
                self._retry(queue, partial(queue.note, entry.key, **{WORKER: self._name}))
                self._evaluate(queue, entry, heartbeat)
                entry, last = None, time.monotonic()
        except KeyboardInterrupt:
            raise RunInterrupted("stopped; an unfinished evaluation was returned to the queue") from None
        finally:
            if entry is not None:
                queue.note(entry.key, **{LEFT: True})
                queue.end(entry.key, complete=False)
            queue.close()
            heartbeat.close()

    def _evaluate(self, queue: Queue, entry: Entry, heartbeat: _Heartbeat) -> None:
        evaluator, directory = self._evaluator(queue, entry, heartbeat)
        scratch = directory / "scratch" / str(entry.request["number"]) if directory.is_dir() else None
        own = None if scratch else Path(tempfile.mkdtemp(prefix="automl_nas-"))
        heartbeat.start(entry, timeout=entry.attributes[TERMS]["timeout"])
        try:
            outcome = evaluate_alone(evaluator, read_request(entry.request, scratch or own))
            attributes: dict[str, Any] = {OUTCOME: serialize_outcome(outcome)}
        except (AutoMLNASError, TypeError) as error:  # a TypeError: the evaluator breaks its contract
            attributes = {ERROR: str(error)}
        finally:
            heartbeat.stop()
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)
        self._retry(queue, lambda: queue.note(entry.key, **attributes))
        self.evaluated += self._retry(queue, lambda: queue.end(entry.key, complete=True))

    def _evaluator(self, queue: Queue, entry: Entry, heartbeat: _Heartbeat) -> tuple[Evaluator, Path]:
        stage = entry.request["stage"]
        if self._stage is None or self._stage[0] != stage:
            description = self._retry(queue, queue.join)
            directory = self._directory or Path(description["directory"])
            # Constructing an evaluator may take long (it may read a data set); the timeout is for evaluations only.
            heartbeat.start(entry, timeout=None)
            try:
                self._stage = stage, StageEvaluator.read({**description, "stage": stage}, directory)(), directory
            finally:
                heartbeat.stop()
        return self._stage[1:]

    def _join(self, queue: Queue) -> None:
        """Wait until a run has created the queue."""
        begun = time.monotonic()
        while True:
            try:
                queue.join()
                return
            except ConfigurationError:
                if time.monotonic() - begun >= self._idle:
                    raise
                time.sleep(POLL_SECONDS)

    def _retry(self, queue: Queue, call: Callable[[], T]) -> T:
        """Repeat a call until the storage responds, so that a finished evaluation is not lost."""
        pause, down = POLL_SECONDS, False
        while True:
            try:
                return call()
            except StorageError as error:
                if not down:
                    _log.warning("%s; the worker waits until it is back", error)
                down, pause = True, min(pause * 2, MAX_RETRY_SECONDS)
                queue.drop_connection()
                time.sleep(pause)


def find_queue(storage: str, seconds: float) -> str:
    """Return the name of the open queue; wait until a run opens one.

    Args:
        storage: see `open_storage`.
        seconds: the maximum number of seconds to wait.

    Raises:
        ConfigurationError: no queue is open after this time, or several queues are open.
        StorageError: the storage cannot be reached.
    """
    begun = time.monotonic()
    while True:
        names = open_queues(storage)
        if len(names) > 1:
            raise ConfigurationError(
                f"several runs use this storage; select the queue of one with --study: {', '.join(names)}"
            )
        if names:
            return names[0]
        if time.monotonic() - begun >= seconds:
            raise ConfigurationError(
                f"no run has opened a queue in this storage within {seconds:g} s; start one with executor: "
                "{name: optuna, storage: ...}"
            )
        time.sleep(POLL_SECONDS)


@final
class _Heartbeat:
    """Sends heartbeats during an evaluation, and restarts the process if the evaluation exceeds its timeout.

    Args:
        storage: the storage of the queue.
        study: the name of the queue.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._queue = Queue(storage, study)
        self._over: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self, entry: Entry, timeout: float | None) -> None:
        """Start the heartbeats of an evaluation.

        Args:
            entry: the evaluation.
            timeout: the maximum number of seconds before `stop` is called; None: unlimited.
        """
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(entry, timeout, self._over), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the heartbeats, without waiting for one that is being sent."""
        if self._over is not None:
            self._over.set()

    def close(self) -> None:
        """Stop the heartbeats and close the connection to the storage."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._queue.close()

    def _send(self, entry: Entry, timeout: float | None, over: threading.Event) -> None:
        interval = entry.attributes[TERMS]["pulse"]
        begun, count = time.monotonic(), 0
        while True:
            left = float("inf") if timeout is None else begun + timeout - time.monotonic()
            if over.wait(min(interval, max(0.0, left))):
                return
            if timeout is not None and time.monotonic() - begun >= timeout:
                self._abort(entry, timeout)
            count += 1
            try:
                self._queue.note(entry.key, **{HEARTBEAT: count})
            except StorageError:
                self._queue.drop_connection()  # the run cannot read it either, and does not count this time

    def _abort(self, entry: Entry, timeout: float) -> None:
        error = f"stopped after its timeout of {timeout:g} s"
        outcome = Outcome(entry.request["number"], state=State.FAILED, error=error, seconds=timeout)
        self._queue.note(entry.key, **{OUTCOME: serialize_outcome(outcome)})
        self._queue.end(entry.key, complete=True)
        # An evaluation cannot be stopped in any other way within its process, so the worker restarts.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
