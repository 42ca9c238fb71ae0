"""Rounds of evaluations by several ranks, which are threads here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from automl_nas.errors import EvaluationError
from automl_nas.evaluation import Evaluator, Outcome, Request, State
from automl_nas.evaluation.ranks import Ranks
from automl_nas.run.trials.executor import Crash, InProcess
from automl_nas.run.trials.rank_executor import RankExecutor, Way
from automl_nas.space import Architecture


class Threads(Ranks):
    """A rank that is a thread."""

    def __init__(self, rank: int, size: int, shared: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size, self._shared, self._barrier = rank, size, shared, barrier

    def gather(self, value: Any) -> list[Any]:
        self._shared[self.rank] = value
        self._barrier.wait()
        values = list(self._shared)
        self._barrier.wait()
        return values


class Noted(Evaluator):
    """Notes which candidates it evaluates; the metric is their number."""

    stochastic: ClassVar[bool] = False

    def __init__(self) -> None:
        self.evaluated: list[int] = []

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            self.evaluated.append(request.number)
            yield Outcome(request.number, {"value": float(request.number)}, seconds=1.0)


def in_ranks(size: int, work: Callable[[Ranks], Any]) -> list[Any]:
    shared: list[Any] = [None] * size
    barrier = threading.Barrier(size, timeout=30)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, [Threads(rank, size, shared, barrier) for rank in range(size)]))


def request(number: int, value: int = 0) -> Request:
    return Request(number, Architecture({"a": value}), seed=number)


def evaluated(ranks: Ranks, way: Way, count: int) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """Return the numbers of each round, those that this rank evaluated, and those that were recorded as started."""
    evaluator, started, rounds = Noted(), list[list[int]](), list[list[int]]()
    executor = RankExecutor(InProcess(), ranks, way)
    executor.open(lambda: evaluator, lambda numbers: started.append(list(numbers)), None)
    for number in range(count):
        executor.submit(request(number))
    while events := executor.next_all():
        rounds.append([event.number for event in events])
    assert executor.close() == []
    return rounds, evaluator.evaluated, started


def test_candidates_are_spread_in_rounds_of_about_five_seconds() -> None:
    first, second = in_ranks(2, lambda ranks: evaluated(ranks, "spread", 14))
    # One each, then five of one second each, then the rest.
    assert first[0] == second[0] == first[2] == [[0, 1], list(range(2, 12)), [12, 13]]
    assert first[1] == [0, *range(2, 7), 12]
    assert second[1] == [1, *range(7, 12), 13]


@pytest.mark.parametrize("way", ["together", "lead"])
def test_one_candidate_at_a_time(way: Way) -> None:
    first, second = in_ranks(2, lambda ranks: evaluated(ranks, way, 2))
    assert first[1] == [0, 1]
    assert second[1] == ([] if way == "lead" else [0, 1])
    assert first[0] == second[0] == [[0], [1]]


def test_ranks_that_propose_different_candidates_are_an_error_in_all() -> None:
    def work(ranks: Ranks) -> str:
        executor = RankExecutor(InProcess(), ranks, "spread")
        executor.open(Noted, lambda numbers: None, None)
        for number in range(2):
            executor.submit(request(number, value=ranks.rank))
        with pytest.raises(EvaluationError) as caught:
            executor.next_all()
        return str(caught.value)

    first, second = in_ranks(2, work)
    assert 'trial 1 is {"a":0} here, and rank 1 evaluated {"a":1}; the strategy is not a function of its seed' in first
    assert "trial 0" in second


def test_what_an_evaluation_does_reaches_all_ranks() -> None:
    class Odd(Noted):
        def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
            for each in requests:
                if each.number == 1:
                    raise ValueError("odd")
                yield Outcome(each.number, {"value": "many"})  # type: ignore[dict-item]

    class Dies(InProcess):
        def next_all(self) -> list[Outcome | Crash]:
            return [Crash(self._queue.popleft().number, "killed by signal 9")]

    def work(ranks: Ranks) -> list[Any]:
        events: list[Any] = []
        for own in (InProcess(), Dies()):
            executor = RankExecutor(own, ranks, "spread")
            executor.open(Odd, lambda numbers: None, None)
            for number in range(2):
                executor.submit(request(number))
            events += executor.next_all()
        return events

    first, second = in_ranks(2, work)
    assert first == second
    assert [(event.state, event.error) for event in first[:2]] == [
        (State.FAILED, "value is 'many', no number but a str"),
        (State.FAILED, "ValueError: odd"),
    ]
    assert first[2:] == [Crash(0, "killed by signal 9"), Crash(1, "killed by signal 9")]
