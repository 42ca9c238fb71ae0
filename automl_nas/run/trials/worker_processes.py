"""An executor with worker processes, isolated from the driver and from each other."""

from __future__ import annotations

import logging
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import Outcome, Request
from automl_nas.run.trials.child_process import MAIN_GUARD, PATIENCE, ChildProcess, ProcessDiedError
from automl_nas.run.trials.executor import Crash, EvaluatorSource, Executor, evaluate_alone, timed_out
from automl_nas.run.trials.rehearsal import TOP_LEVEL, Rehearsal

RESTARTS = 2
"""Number of times in a row that a worker which is killed while it starts is started again."""

_log = logging.getLogger("automl_nas")


@dataclass
class _Worker:
    child: ChildProcess
    request: Request | None = None
    begun: float = 0.0
    ready: bool = field(default=False)


class WorkerProcesses(Executor):
    """Evaluates in worker processes, each of which builds its evaluator from the configuration.

    When a worker dies, its trial is tried once more; an evaluation that exceeds the timeout is stopped. Results do not
    depend on the number of workers.

    Args:
        workers: number of processes.
        rehearse: whether one worker process is started before the run begins, to try whether it can construct the
            space, the task and the classes of the stages. That takes as long as importing torch and opening the data.
    """

    def __init__(self, *, workers: int = 1, rehearse: bool = True) -> None:
        if workers < 1:
            raise ConfigurationError(f"must be at least 1, but is {workers}", path="workers")
        self._count, self._rehearses = workers, rehearse
        self._workers: list[_Worker] = []
        self._queue: deque[Request] = deque()
        self._killed = 0  # workers in a row that were killed while they started

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Start and end one worker process; see `Executor.rehearse`."""
        if self._rehearses:
            rehearsal.try_process()

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Prepare for the evaluations of a stage; processes are started with the first requests."""
        try:
            self._source = pickle.dumps(source)
        except Exception as error:
            raise ConfigurationError(
                f"worker processes need components that can be pickled: {error}; {TOP_LEVEL}",
                path="executor",
            ) from None
        self._starting, self._timeout = starting, timeout

    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""
        self._queue.append(request)

    def next(self) -> Outcome | Crash | None:
        """Wait for an outcome or a crash, at most `PATIENCE` seconds."""
        self._dispatch()
        busy = [worker for worker in self._workers if worker.request is not None or not worker.ready]
        if not busy:
            return None
        for connection in wait([worker.child.connection for worker in busy], PATIENCE):
            worker = next(w for w in busy if w.child.connection is connection)
            try:
                message = worker.child.receive()
            except ProcessDiedError as death:
                return self._died(worker, death)
            if isinstance(message, Outcome):
                worker.request = None
                return message
            if isinstance(message, BaseException):
                self._end(worker)
                raise message
            worker.ready = True
            self._killed = 0
        return self._timed_out()

    def close(self) -> list[int]:
        """Stop all workers; evaluations that are running are killed."""
        begun = [worker.request.number for worker in self._workers if worker.request is not None]
        self._queue.clear()
        for worker in list(self._workers):
            self._end(worker)
        return begun

    def _dispatch(self) -> None:
        for worker in [w for w in self._workers if w.ready and w.request is None and not w.child.process.is_alive()]:
            self._end(worker)  # it died while idle: no candidate is the cause
        missing = min(self._count, len(self._queue) + sum(w.request is not None for w in self._workers)) - len(
            self._workers
        )
        for _ in range(missing):
            child = ChildProcess(partial(_evaluator_handler, self._source), name="automl-nas worker")
            self._workers.append(_Worker(child))
        for worker in self._workers:
            if worker.ready and worker.request is None and self._queue:
                request = self._queue.popleft()
                self._starting([request.number])
                worker.request, worker.begun = request, time.monotonic()
                worker.child.send(request)

    def _died(self, worker: _Worker, death: ProcessDiedError) -> Crash | None:
        """Remove a worker that died; return the crash of its evaluation, None if it had none."""
        request = worker.request
        self._end(worker)
        if worker.ready:
            return None if request is None else Crash(request.number, str(death).removeprefix("was "))
        if not death.killed:
            raise EvaluationError(f"a worker process could not start: it {death}; {MAIN_GUARD}")
        self._killed += 1
        if self._killed > RESTARTS:
            raise EvaluationError(
                f"a worker process could not start: it {death}, {self._killed} times in a row; the system kills "
                "processes when memory is short: free some memory or use fewer workers, then resume the run"
            )
        _log.warning("a worker process %s while it started; it is started again", death)
        return None  # the next call starts another one

    def _timed_out(self) -> Outcome | None:
        """Stop an evaluation that exceeded the timeout, if there is one, and return its outcome."""
        for worker in self._workers:
            outcome = timed_out(worker.request, worker.begun, self._timeout)
            if outcome is not None:
                self._end(worker)
                return outcome
        return None

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.child.end()


def _evaluator_handler(source: bytes) -> Callable[[Any], object]:
    """Build the evaluator in the worker process; return the function that evaluates requests with it."""
    evaluator = pickle.loads(source)()  # noqa: S301 - bytes of our own parent process, through a pipe, never from a file
    return partial(evaluate_alone, evaluator, in_worker=True)
