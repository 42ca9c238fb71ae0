"""`Heartbeat`: tells the run that a worker lives, and restarts the worker's process after a timeout."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from typing import final

from automl_nas.evaluation import Outcome, State
from automl_nas_optuna.storages import StorageError
from automl_nas_optuna.workers.presence import Presence
from automl_nas_optuna.workers.queue import HEARTBEAT, OUTCOME, TERMS, Entry, Queue, delivered


@dataclass
class _Job:
    """A claimed evaluation.

    Attributes:
        entry: the evaluation.
        due: the time (`time.monotonic`) of the next heartbeat.
        timeout: the maximum number of seconds of the evaluation; infinite while the evaluator is constructed.
        deadline: the time at which the timeout is over.
    """

    entry: Entry
    due: float
    timeout: float = math.inf
    deadline: float = math.inf


@final
class Heartbeat:
    """Sends heartbeats from the claim of an evaluation to its end, by one thread with a connection of its own.

    Args:
        storage: the storage of the queue.
        study: the name of the queue.
        presence: the record of the worker.
    """

    def __init__(self, storage: str, study: str, presence: Presence) -> None:
        self._queue, self._presence = Queue(storage, study), presence
        self._job: _Job | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send, name="heartbeat", daemon=True)
        self._thread.start()

    def start(self, entry: Entry) -> None:
        """Start the heartbeats of an evaluation, without a timeout."""
        with self._changed:
            self._job = _Job(entry, time.monotonic() + entry.attributes[TERMS]["pulse"])
            self._changed.notify()

    def limit(self, seconds: float | None) -> None:
        """Restart the process after this many seconds from now, unless this method is called again; None: never."""
        with self._changed:
            assert self._job is not None
            self._job.timeout = math.inf if seconds is None else seconds
            self._job.deadline = time.monotonic() + self._job.timeout
            self._changed.notify()

    def stop(self) -> None:
        """Stop the heartbeats and the timeout, without waiting for a heartbeat that is being sent."""
        with self._changed:
            self._job = None

    def close(self) -> None:
        """End the thread and close its connection to the storage."""
        with self._changed:
            self._job, self._closed = None, True
            self._changed.notify()
        self._thread.join()
        self._queue.close()

    def _send(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._queue.note(job.entry.key, **{HEARTBEAT: time.time()})
            except StorageError:
                self._queue.drop_connection()  # the run cannot read it either, and does not count this time

    def _next(self) -> _Job | None:
        """Wait until a heartbeat is due; return its evaluation, or None after `close`."""
        with self._changed:
            while not self._closed:
                job, now = self._job, time.monotonic()
                if job is None:
                    self._changed.wait()
                elif now >= job.deadline:
                    self._abort(job)
                elif now >= job.due:
                    job.due = now + job.entry.attributes[TERMS]["pulse"]
                    return job
                else:
                    self._changed.wait(min(job.due, job.deadline) - now)
        return None

    def _abort(self, job: _Job) -> None:
        """Record that an evaluation exceeded its timeout, and restart the process.

        `limit` and `stop` wait for this, so the evaluation cannot end in between. If the storage is down, it is tried
        again later.
        """
        error = f"stopped after its timeout of {job.timeout:g} s"
        number, worker = job.entry.request["number"], self._presence.worker
        outcome = Outcome(number, state=State.FAILED, error=error, seconds=job.timeout, worker=worker)
        try:
            self._queue.note(job.entry.key, **{OUTCOME: delivered(outcome)})
            self._queue.end(job.entry.key, complete=True)
            self._presence.leave(self._queue)
        except StorageError:
            self._queue.drop_connection()
            job.deadline = time.monotonic() + job.entry.attributes[TERMS]["pulse"]
            return
        # An evaluation cannot be stopped in any other way within its process, so the worker restarts.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
