"""Searches in worker processes, or in this one."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from automl_nas.errors import EvaluationError
from automl_nas.run import MAIN_GUARD, PATIENCE, READY, ChildProcess, ProcessDiedError
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.study import Job, Study

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Worker:
    child: ChildProcess
    job: Job | None = None


def searches(
    study: Study, jobs: Sequence[Job], workers: int, stop: Callable[[], bool] = lambda: False
) -> Generator[SearchRecord, None, None]:
    """Make searches and yield each as it is finished, in any order.

    Args:
        study: makes them.
        jobs: which ones.
        workers: processes, each with one thread; 0: in this process.
        stop: asked now and then; true ends the iteration, and searches under way are lost.

    Raises:
        EvaluationError: a search failed; those that others finished meanwhile have been yielded.
        RunInterrupted: stopped in this process.
    """
    if workers == 0:
        for job in jobs:
            yield study.search(job, stop)
        return
    waiting = deque(jobs)
    handler = partial(_search_handler, dict(study.config))
    crew = [
        _Worker(ChildProcess(handler, name="automl-nas benchmark", environment=_one_thread()))
        for _ in range(min(workers, len(jobs)))
    ]
    try:
        for worker in crew:
            _assign(worker, waiting)
        while any(worker.job is not None for worker in crew) and not stop():
            busy: dict[object, _Worker] = {worker.child.connection: worker for worker in crew if worker.job is not None}
            failure: Exception | None = None
            for connection in wait([worker.child.connection for worker in busy.values()], PATIENCE):
                worker = busy[connection]
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
                assert isinstance(answer, SearchRecord)
                _assign(worker, waiting)
                yield answer
            if failure is not None:
                raise failure
    finally:
        for worker in crew:
            worker.child.end()


def _assign(worker: _Worker, waiting: deque[Job]) -> None:
    worker.job = waiting.popleft() if waiting else None
    if worker.job is not None:
        worker.child.send(worker.job)


def _one_thread() -> dict[str, str]:
    """Return the environment in which libraries use one thread, but for what the user has set."""
    return {name: os.environ.get(name, "1") for name in _ONE_THREAD}


def _search_handler(config: dict[str, Any]) -> Callable[[Job], SearchRecord]:
    """Read the configuration in the worker; return what makes searches."""
    from automl_nas.run import complete_manager

    return Study(config, complete_manager().registry).search
