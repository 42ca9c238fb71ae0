"""Searches in worker processes, or in this one."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from automl_nas.errors import EvaluationError
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.study import Job, Study

PATIENCE = 0.2
"""Seconds between two looks at whether somebody asked to stop."""

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class _Worker:
    process: Any
    connection: Connection
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
    crew: list[_Worker] = []
    try:
        with _one_thread():
            for _ in range(min(workers, len(jobs))):
                crew.append(_hired(study.config))
        for worker in crew:
            _employ(worker, waiting)
        while any(worker.job is not None for worker in crew) and not stop():
            busy = {worker.connection: worker for worker in crew if worker.job is not None}
            failure: BaseException | None = None
            for connection in wait(list(busy), PATIENCE):
                worker = busy[connection]  # type: ignore[index]
                answer = _answer(worker)
                if isinstance(answer, BaseException):
                    failure = answer
                    continue
                _employ(worker, waiting)
                yield answer
            if failure is not None:
                raise failure
    finally:
        for worker in crew:
            worker.connection.close()
            worker.process.kill()
            worker.process.join()
            worker.process.close()


def _hired(config: Mapping[str, Any]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(there, dict(config)), daemon=True, name="automl-nas benchmark")
    process.start()
    there.close()
    return _Worker(process, here)


def _employ(worker: _Worker, waiting: deque[Job]) -> None:
    worker.job = waiting.popleft() if waiting else None
    if worker.job is not None:
        # If it died meanwhile, that is seen when its connection is read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(worker.job)


def _answer(worker: _Worker) -> SearchRecord | BaseException:
    try:
        answer: SearchRecord | BaseException = worker.connection.recv()
    except (EOFError, ConnectionResetError, pickle.UnpicklingError):
        worker.process.join(5)
        code = worker.process.exitcode
        reason = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return EvaluationError(
            f"the worker process {reason} during {worker.job}; its own message, if any, stands above. A script that "
            "uses workers is a file (not standard input) with its calls under `if __name__ == '__main__':`"
        )
    return answer


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let libraries in processes that are started meanwhile use one thread, unless the user said otherwise."""
    added = [name for name in _ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _work(connection: Connection, config: dict[str, Any]) -> None:
    """Run in the worker: make searches until the driver is gone."""
    # Ctrl-C reaches the whole process group; the driver decides what happens to its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    # What there is to say of plugins the driver has said once.
    logging.getLogger("automl_nas").addHandler(logging.NullHandler())
    study: Study | None = None
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            if study is None:
                from automl_nas.run import complete_manager

                study = Study(config, complete_manager().registry)
            answer: object = study.search(job)
        except BaseException as error:
            answer = _portable(error)
        connection.send(answer)


def _follow_parent() -> None:
    """End with the driver, even if it was killed in the middle of a long search."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _portable(error: BaseException) -> BaseException:
    told = "".join(traceback.format_exception(error))
    try:
        copy: object = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the same line
    except Exception:
        copy = None
    if not isinstance(copy, Exception):
        copy = EvaluationError(f"{type(error).__name__}: {error}")
    # The other process's traceback does not travel; --debug shows notes.
    copy.add_note(told)
    return copy
