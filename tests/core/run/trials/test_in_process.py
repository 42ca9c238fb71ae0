"""Evaluating in the driver's process: what is recorded as started, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import pytest

from automl_nas.errors import EvaluationError, RunFailedError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.run.record.atomic_files import cannot_write
from automl_nas.run.trials.executor import Crash, InProcess
from automl_nas.space import Architecture


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock: evaluations take exactly as long as these tests set."""
    clock = Clock()
    monkeypatch.setattr("automl_nas.run.trials.executor.time.perf_counter", lambda: clock.now)
    return clock


class Clock:
    """A clock that advances only when a test sets it."""

    def __init__(self) -> None:
        self.now = 0.0


class Timed(Evaluator):
    """Takes the configured seconds for each trial."""

    stochastic = False

    def __init__(self, clock: Clock, seconds: Callable[[int], float]) -> None:
        self._clock, self._seconds = clock, seconds
        self.begun: list[int] = []

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            self.begun.append(request.number)
            self._clock.now += self._seconds(request.number)
            yield Outcome(request.number, {"accuracy": 0.5})


class Broken(Timed):
    """Yields None instead of an outcome for trial 3."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in super().evaluate(requests):
            yield outcome if outcome.number != 3 else None  # type: ignore[misc]


def opened(evaluator: Timed, count: int) -> tuple[InProcess, list[list[int]]]:
    executor, groups = InProcess(), list[list[int]]()

    def starting(numbers: Sequence[int]) -> None:
        assert not set(numbers) & set(evaluator.begun), "recorded before it begins"
        groups.append([*numbers])

    executor.open(lambda: evaluator, starting, None)
    for number in range(count):
        executor.submit(Request(number, Architecture({"a": number}), seed=1))
    return executor, groups


def drained(executor: InProcess) -> list[Outcome | Crash]:
    outcomes: list[Outcome | Crash] = []
    while events := executor.next_all():
        outcomes += events
    return outcomes


def test_quick_evaluations_are_recorded_as_started_together(clock: Clock) -> None:
    executor, groups = opened(Timed(clock, lambda number: 2.0**-14), 100)  # 16 of them are 0.98 ms
    outcomes = drained(executor)
    assert [outcome.number for outcome in outcomes] == [*range(100)]
    assert {outcome.seconds for outcome in outcomes if isinstance(outcome, Outcome)} == {2.0**-14}
    assert groups[0] == [0], "nothing is known yet of how long one takes"
    assert [len(group) for group in groups] == [1, 16, 16, 16, 16, 16, 16, 3]
    assert [*chain(*groups)] == [*range(100)]
    assert executor.close() == []


def test_slow_evaluations_are_recorded_as_started_one_by_one(clock: Clock) -> None:
    executor, groups = opened(Timed(clock, lambda number: 0.002), 5)
    assert len(drained(executor)) == 5
    assert groups == [[number] for number in range(5)]


def test_what_was_recorded_as_started_and_did_not_begin_is_given_back(clock: Clock) -> None:
    executor, groups = opened(Timed(clock, lambda number: 0.002 if number == 10 else 2.0**-14), 100)
    outcomes: list[Outcome | Crash] = []
    while len(outcomes) < 11:
        outcomes += executor.next_all()
    assert [outcome.number for outcome in outcomes] == [*range(11)]
    assert executor.close() == [*range(11, 17)]
    assert [*chain(*groups)] == [*range(17)]


def test_outcomes_before_an_error_are_not_lost(clock: Clock) -> None:
    executor, _ = opened(Broken(clock, lambda number: 0.0), 5)
    outcomes: list[Outcome | Crash] = []
    with pytest.raises(EvaluationError, match="yielded None"):
        while True:
            outcomes += executor.next_all()
    assert [outcome.number for outcome in outcomes] == [0, 1, 2]


class Pairs(Timed):
    """Takes two requests before it evaluates the first one, as an evaluator that shares work does."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for first in requests:
            for request in (first, next(iter(requests))):
                yield Outcome(request.number, {"accuracy": 0.5})


@pytest.mark.parametrize("kind", [Timed, Pairs])
def test_a_start_that_cannot_be_recorded_is_no_candidates_failure(clock: Clock, kind: type[Timed]) -> None:
    executor = InProcess()

    def starting(numbers: Sequence[int]) -> None:
        if 1 in numbers:
            raise cannot_write(Path("trials.jsonl"), OSError(28, "No space left on device"))

    executor.open(lambda: kind(clock, lambda number: 0.01), starting, None)
    for number in range(4):
        executor.submit(Request(number, Architecture({"a": number}), seed=1))
    outcomes: list[Outcome | Crash] = []
    with pytest.raises(RunFailedError, match=r"cannot write trials\.jsonl: the disk is full"):
        for _ in range(10):
            outcomes += executor.next_all()
    assert all(isinstance(outcome, Outcome) and outcome.error == "" for outcome in outcomes)


class Silent(Timed):
    """Returns None."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        return None  # type: ignore[return-value]


def test_an_evaluator_that_returns_nothing_is_named(clock: Clock) -> None:
    executor, _ = opened(Silent(clock, lambda number: 0.0), 1)
    with pytest.raises(EvaluationError, match=r"Silent\.evaluate returned None, a NoneType; it must yield Outcome"):
        executor.next()
