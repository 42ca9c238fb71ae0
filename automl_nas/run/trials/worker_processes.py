"""Evaluating in worker processes: isolated from the driver and from each other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.run.trials.executor import Crash, EvaluatorSource, Executor, evaluate_alone

PATIENCE = 0.2
"""Seconds `WorkerProcesses.next` waits before it lets the driver look round."""


@dataclass
class _Worker:
    process: Any
    connection: Connection
    request: Request | None = None
    begun: float = 0.0
    ready: bool = field(default=False)


class WorkerProcesses(Executor):
    """Evaluates in worker processes, each of which builds its evaluator from the configuration.

    A worker that dies takes one trial with it, which is tried once more; an evaluation that takes too long is
    stopped. What is found does not depend on the number of workers.

    Args:
        workers: how many processes.
    """

    def __init__(self, *, workers: int = 1) -> None:
        if workers < 1:
            raise ConfigurationError(f"at least one worker is needed, not {workers}", path="executor.workers")
        self._count = workers
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._queue: deque[Request] = deque()

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Get ready for a stage; processes are started with the first requests."""
        try:
            self._source = pickle.dumps(source)
        except Exception as error:
            raise ConfigurationError(
                f"worker processes need components that can be sent to them, and these cannot: {error}; define classes "
                "and functions "
                "at the top level of a module, or use executor: in_process",
                path="executor",
            ) from None
        self._starting, self._timeout = starting, timeout

    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""
        self._queue.append(request)

    def next(self) -> Outcome | Crash | None:
        """Wait a little for an outcome or a crash."""
        self._dispatch()
        busy = [worker for worker in self._workers if worker.request is not None or not worker.ready]
        if not busy:
            return None
        for connection in wait([worker.connection for worker in busy], PATIENCE):
            worker = next(w for w in busy if w.connection is connection)
            try:
                message = worker.connection.recv()
            except (EOFError, ConnectionResetError, pickle.UnpicklingError):
                return self._buried(worker)
            if isinstance(message, Outcome):
                worker.request = None
                return message
            if isinstance(message, BaseException):
                self._end(worker)
                raise message
            worker.ready = True
        return self._late()

    def close(self) -> list[int]:
        """Stop all workers; evaluations that are running are killed."""
        begun = [worker.request.number for worker in self._workers if worker.request is not None]
        self._queue.clear()
        for worker in list(self._workers):
            self._end(worker)
        return begun

    def _dispatch(self) -> None:
        for worker in [w for w in self._workers if w.ready and w.request is None and not w.process.is_alive()]:
            self._end(worker)  # it died while idle: no candidate is to blame
        missing = min(self._count, len(self._queue) + sum(w.request is not None for w in self._workers)) - len(
            self._workers
        )
        for _ in range(missing):
            here, there = self._context.Pipe()
            process = self._context.Process(
                target=_work, args=(there, self._source), daemon=True, name="automl-nas worker"
            )
            process.start()
            there.close()
            self._workers.append(_Worker(process, here))
        for worker in self._workers:
            if worker.ready and worker.request is None and self._queue:
                request = self._queue.popleft()
                self._starting([request.number])
                worker.request, worker.begun = request, time.monotonic()
                # If it died while idle, that is seen as a crash when the connection is read.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    worker.connection.send(request)

    def _buried(self, worker: _Worker) -> Crash | None:
        request = worker.request
        worker.process.join(5)
        code = worker.process.exitcode
        self._end(worker)
        reason = f"killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        if not worker.ready:
            raise EvaluationError(
                f"a worker process could not start ({reason}); its own message stands above. A script that uses worker "
                "processes is a file (not standard input) and needs its calls under `if __name__ == '__main__':`"
            )
        return None if request is None else Crash(request.number, reason)

    def _late(self) -> Outcome | None:
        if self._timeout is None:
            return None
        for worker in self._workers:
            spent = time.monotonic() - worker.begun
            if worker.request is not None and spent > self._timeout:
                number = worker.request.number
                self._end(worker)
                return Outcome(
                    number, state=State.FAILED, error=f"stopped after its timeout of {self._timeout:g} s", seconds=spent
                )
        return None

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.kill()
        worker.process.join()
        worker.process.close()


def _work(connection: Connection, source: bytes) -> None:
    """Run in the worker: build the evaluator, then answer requests until the driver is gone."""
    # Ctrl-C reaches the whole process group; the driver decides what happens to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    try:
        evaluator = pickle.loads(source)()  # noqa: S301 - bytes of our own parent process, through a pipe, never from a file
    except BaseException as error:
        connection.send(_portable(error))
        return
    connection.send("ready")
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer: object = evaluate_alone(evaluator, request)
        except BaseException as error:
            answer = _portable(error)
        connection.send(answer)


def _follow_parent() -> None:
    """End with the driver, even if it was killed in the middle of a long evaluation."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _portable(error: BaseException) -> BaseException:
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the same line
    except Exception:
        return EvaluationError(f"{type(error).__name__}: {error}")
    return copy if isinstance(copy, Exception) else EvaluationError(f"{type(error).__name__}: {error}")
