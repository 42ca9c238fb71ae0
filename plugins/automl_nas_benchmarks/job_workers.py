"""Runs jobs in worker processes: `run_jobs`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Generic, TypeVar

from automl_nas.errors import EvaluationError
from automl_nas.run import MAIN_GUARD, PATIENCE, READY, ChildProcess, ProcessDiedError

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

JobT = TypeVar("JobT")


@dataclass
class _Worker(Generic[JobT]):
    child: ChildProcess
    job: JobT | None = None


def run_jobs(
    make_handler: Callable[[], Callable[[JobT], object]],
    jobs: Sequence[JobT],
    workers: int,
    *,
    name: str,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Any, None, None]:
    """Run jobs in processes with one thread each, and yield the answer of each as it finishes, in any order.

    Args:
        make_handler: called once in each worker process; returns the function from job to answer. It must be picklable,
            as jobs and answers must.
        jobs: the jobs, which are begun in this order.
        workers: number of worker processes, at least 1.
        name: of the processes, for lists of processes.
        stop: called repeatedly; if it returns true, the iteration ends and the processes are killed.

    Raises:
        EvaluationError: a process died.
        Exception: a job raised it. Answers that arrived at the same time were yielded before.
    """
    pending = deque(jobs)
    job_workers: list[_Worker[JobT]] = [
        _Worker(ChildProcess(make_handler, name=name, environment=_one_thread()))
        for _ in range(min(workers, len(jobs)))
    ]
    try:
        for worker in job_workers:
            _assign(worker, pending)
        while (busy := [worker for worker in job_workers if worker.job is not None]) and not stop():
            by_connection: dict[object, _Worker[JobT]] = {worker.child.connection: worker for worker in busy}
            failure: Exception | None = None
            for connection in wait([worker.child.connection for worker in busy], PATIENCE):
                worker = by_connection[connection]
                try:
                    answer = worker.child.receive()
                except ProcessDiedError as death:
                    failure = EvaluationError(f"the worker process {death} during {worker.job}; {MAIN_GUARD}")
                    continue
                if answer == READY:
                    continue
                if isinstance(answer, Exception):
                    failure = answer
                    continue
                _assign(worker, pending)
                yield answer
            if failure is not None:
                raise failure
    finally:
        for worker in job_workers:
            worker.child.end()


def _assign(worker: _Worker[JobT], pending: deque[JobT]) -> None:
    worker.job = pending.popleft() if pending else None
    if worker.job is not None:
        worker.child.send(worker.job)


def _one_thread() -> dict[str, str]:
    """Return environment variables that limit libraries to one thread; values that the user has set are kept."""
    return {name: os.environ.get(name, "1") for name in _ONE_THREAD}
