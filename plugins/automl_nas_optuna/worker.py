"""A worker: a process that takes evaluations from a queue, one at a time, until nothing comes any more."""

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
from automl_nas_optuna.queues import (
    BEAT,
    ERROR,
    LEFT,
    OUTCOME,
    TERMS,
    WORKER,
    Entry,
    Queue,
    open_queues,
    read_request,
    told_outcome,
)
from automl_nas_optuna.storages import StorageError

_log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between two looks into an empty queue."""

SLOWEST = 30.0
"""Seconds between two tries to reach a storage that is down, in the end."""

T = TypeVar("T")


@final
class Worker:
    """Evaluates what a run puts into a queue.

    Args:
        storage: see `open_storage`.
        study: the queue; None: the one that is open.
        idle: seconds without work after which it leaves.
        directory: where the run's directory is on this machine; None: where the run says.

    Attributes:
        evaluated: how many outcomes it has delivered.
    """

    def __init__(self, storage: str, study: str | None, *, idle: float, directory: Path | None = None) -> None:
        self._storage, self._study, self._idle, self._directory = storage, study, idle, directory
        self._stage: tuple[int, Evaluator, Path] | None = None
        self._name = f"process {os.getpid()} on {socket.gethostname()}"
        self.evaluated = 0

    def run(self) -> None:
        """Work until there has been nothing to do for `idle` seconds.

        Raises:
            RunInterrupted: asked to stop; what was being evaluated is given back.
            ConfigurationError: no queue is there, or several and none is named; or the run's configuration cannot be
                used here.
            StorageError: the storage cannot be reached at the start.
        """
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        queue = Queue(self._storage, self._study or self._found())
        pulse = _Pulse(self._storage, queue.name)
        entry: Entry | None = None
        try:
            self._joined(queue)
            last = time.monotonic()
            while time.monotonic() - last < self._idle:
                entry = self._stubborn(queue, queue.claim)
                if entry is None:
                    time.sleep(LOOK)
                    continue
                self._stubborn(queue, partial(queue.note, entry.key, **{WORKER: self._name}))
                self._serve(queue, entry, pulse)
                entry, last = None, time.monotonic()
        except KeyboardInterrupt:
            raise RunInterrupted("stopped; what was being evaluated is given back") from None
        finally:
            if entry is not None:
                queue.note(entry.key, **{LEFT: True})
                queue.end(entry.key, complete=False)
            queue.close()
            pulse.close()

    def _serve(self, queue: Queue, entry: Entry, pulse: _Pulse) -> None:
        evaluator, directory = self._evaluator(queue, entry.request["stage"])
        scratch = directory / "scratch" / str(entry.request["number"]) if directory.is_dir() else None
        own = None if scratch else Path(tempfile.mkdtemp(prefix="automl_nas-"))
        pulse.start(entry)
        try:
            outcome = evaluate_alone(evaluator, read_request(entry.request, scratch or own))
            told: dict[str, Any] = {OUTCOME: told_outcome(outcome)}
        except (AutoMLNASError, TypeError) as error:  # an evaluator that breaks its contract
            told = {ERROR: str(error)}
        finally:
            pulse.stop()
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)
        self._stubborn(queue, lambda: queue.note(entry.key, **told))
        self.evaluated += self._stubborn(queue, lambda: queue.end(entry.key, complete=True))

    def _evaluator(self, queue: Queue, stage: int) -> tuple[Evaluator, Path]:
        if self._stage is None or self._stage[0] != stage:
            told = self._stubborn(queue, queue.join)
            directory = self._directory or Path(told["directory"])
            self._stage = stage, StageEvaluator.read({**told, "stage": stage}, directory)(), directory
        return self._stage[1:]

    def _found(self) -> str:
        """Wait for a run to open its queue."""
        begun = time.monotonic()
        while True:
            names = open_queues(self._storage)
            if len(names) > 1:
                raise ConfigurationError(f"several runs have work here; name one with --study: {', '.join(names)}")
            if names:
                return names[0]
            if time.monotonic() - begun >= self._idle:
                raise ConfigurationError(
                    f"no run has put work into this storage within {self._idle:g} s; start one with executor: "
                    "{name: optuna, storage: ...}"
                )
            time.sleep(LOOK)

    def _joined(self, queue: Queue) -> None:
        begun = time.monotonic()
        while True:
            try:
                queue.join()
                return
            except ConfigurationError:
                if time.monotonic() - begun >= self._idle:
                    raise
                time.sleep(LOOK)

    def _stubborn(self, queue: Queue, call: Callable[[], T]) -> T:
        """Call until the storage answers: work that is done is not thrown away."""
        pause, down = LOOK, False
        while True:
            try:
                return call()
            except StorageError as error:
                if not down:
                    _log.warning("%s; waiting until it is back", error)
                down, pause = True, min(pause * 2, SLOWEST)
                queue.drop_connection()
                time.sleep(pause)


@final
class _Pulse:
    """Gives signs of life while an evaluation goes on, and ends the process if it takes too long.

    Args:
        storage: of the queue.
        study: the queue.
    """

    def __init__(self, storage: str, study: str) -> None:
        self._queue = Queue(storage, study)
        self._over: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self, entry: Entry) -> None:
        """Begin with the signs of life of an evaluation."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(entry, self._over), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the signs of life; one that is just being given is not waited for."""
        if self._over is not None:
            self._over.set()

    def close(self) -> None:
        """Let go of the storage."""
        self.stop()
        if self._thread is not None:
            self._thread.join()
        self._queue.close()

    def _beat(self, entry: Entry, over: threading.Event) -> None:
        interval, timeout = entry.attributes[TERMS]["pulse"], entry.attributes[TERMS]["timeout"]
        begun, count = time.monotonic(), 0
        while True:
            left = float("inf") if timeout is None else begun + timeout - time.monotonic()
            if over.wait(min(interval, max(0.0, left))):
                return
            if timeout is not None and time.monotonic() - begun >= timeout:
                self._give_up(entry, timeout)
            count += 1
            try:
                self._queue.note(entry.key, **{BEAT: count})
            except StorageError:
                self._queue.drop_connection()  # the run cannot see it either, and does not count the time

    def _give_up(self, entry: Entry, timeout: float) -> None:
        error = f"stopped after its timeout of {timeout:g} s"
        outcome = Outcome(entry.request["number"], state=State.FAILED, error=error, seconds=timeout)
        self._queue.note(entry.key, **{OUTCOME: told_outcome(outcome)})
        self._queue.end(entry.key, complete=True)
        # Nothing else stops an evaluation in this process; the worker begins anew.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
