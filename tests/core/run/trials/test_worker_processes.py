"""Worker processes: what happens to them between candidates."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from functools import partial

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.runs import small_space

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
