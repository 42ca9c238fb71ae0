"""Worker processes: what happens to them between candidates."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.runs import small_space

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.run.trials.executor import Crash
from automl_nas.run.trials.worker_processes import WorkerProcesses
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream


def source(make: partial[SearchSpace]) -> Evaluator:
    return Free(make())


def answer(executor: WorkerProcesses) -> Outcome | Crash:
    while (event := executor.next()) is None:
        pass
    return event


@pytest.mark.process
def test_a_worker_that_dies_while_idle_is_no_candidates_fault() -> None:
    begun: list[int] = []

    def starting(numbers: Sequence[int]) -> None:
        begun.extend(numbers)

    architecture = small_space().sample(stream(0, "test"))
    executor = WorkerProcesses(workers=1)
    executor.open(partial(source, partial(small_space)), starting, None)
    try:
        executor.submit(Request(0, architecture, 1))
        first = answer(executor)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        worker.join()
        executor.submit(Request(1, architecture, 1))
        second = answer(executor)
    finally:
        assert executor.close() == []
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert first.metrics == second.metrics
    assert begun == [0, 1]


def killed_while_starting(times: int, starts: Path) -> Evaluator:
    """Kill the process in its first starts; the file counts them."""
    with starts.open("a") as file:
        file.write("x")
    if starts.stat().st_size <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return Free(small_space())


def started_after(times: int, starts: Path) -> Outcome | Crash:
    executor = WorkerProcesses(workers=1)
    executor.open(partial(killed_while_starting, times, starts), lambda numbers: None, None)
    try:
        executor.submit(Request(0, small_space().sample(stream(0, "test")), 1))
        return answer(executor)
    finally:
        executor.close()


@pytest.mark.process
def test_a_worker_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(started_after(2, tmp_path / "starts"), Outcome)
    assert (tmp_path / "starts").read_text() == "xxx"
    assert caplog.text.count("was killed by signal 9 while it started; it is started again") == 2


@pytest.mark.process
def test_workers_that_are_always_killed_while_they_start_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"could not start: it was killed by signal 9, 3 times in a row.*memory"):
        started_after(100, tmp_path / "starts")
    assert (tmp_path / "starts").read_text() == "xxx"
