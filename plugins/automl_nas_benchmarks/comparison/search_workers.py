"""Runs searches in worker processes, or in this process."""

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
from automl_nas_benchmarks.comparison.plan import ComparisonPlan
from automl_nas_benchmarks.comparison.search import SearchJob, SearchRecord

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Worker:
    child: ChildProcess
    job: SearchJob | None = None


def run_searches(
    plan: ComparisonPlan, jobs: Sequence[SearchJob], workers: int, stop: Callable[[], bool] = lambda: False
) -> Generator[SearchRecord, None, None]:
    """Run searches and yield the record of each as it finishes, in any order.

    Args:
        plan: the comparison that the searches are part of.
        jobs: the searches to run.
        workers: number of worker processes, each with one thread; 0: run the searches in this process.
        stop: called repeatedly; if it returns true, the iteration ends and unfinished searches are lost.

    Raises:
        EvaluationError: a search failed. The searches that other workers finished at the same time were yielded before.
        RunInterrupted: ``stop`` returned true during a search in this process.
    """
    if workers == 0:
        for job in jobs:
            yield plan.search(job, stop)
        return
    pending = deque(jobs)
    handler = partial(_search_handler, dict(plan.config))
    search_workers = [
        _Worker(ChildProcess(handler, name="automl-nas benchmark", environment=_one_thread()))
        for _ in range(min(workers, len(jobs)))
    ]
    try:
        for worker in search_workers:
            _assign(worker, pending)
        while (busy := [worker for worker in search_workers if worker.job is not None]) and not stop():
            by_connection: dict[object, _Worker] = {worker.child.connection: worker for worker in busy}
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
                assert isinstance(answer, SearchRecord)
                _assign(worker, pending)
                yield answer
            if failure is not None:
                raise failure
    finally:
        for worker in search_workers:
            worker.child.end()


def _assign(worker: _Worker, pending: deque[SearchJob]) -> None:
    worker.job = pending.popleft() if pending else None
    if worker.job is not None:
        worker.child.send(worker.job)


def _one_thread() -> dict[str, str]:
    """Return environment variables that limit libraries to one thread; values that the user has set are kept."""
    return {name: os.environ.get(name, "1") for name in _ONE_THREAD}


def _search_handler(config: dict[str, Any]) -> Callable[[SearchJob], SearchRecord]:
    """Resolve the configuration in the worker process and return its search function."""
    from automl_nas.run import complete_manager

    return ComparisonPlan(config, complete_manager().registry).search
