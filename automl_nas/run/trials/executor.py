"""Where evaluations happen: the `Executor` interface, and the one that evaluates in this process."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from automl_nas.errors import ConfigurationError, EvaluationError, Pruned
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Reports, Request, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.trials.trial_seeds import seed_globally

QUICK = 1e-3
"""Seconds. What evaluations have found may wait for so long before it is recorded: it is as quickly found again."""

EvaluatorSource = Callable[[], Evaluator]
"""Makes the stage's evaluator. It can be pickled: in a worker process it does so from the configuration."""


@dataclass(frozen=True)
class Crash:
    """An evaluation that took its process with it.

    Attributes:
        number: the trial's.
        reason: what is known, e.g. ``killed by signal 9``.
    """

    number: int
    reason: str


class Executor(ABC):
    """Runs evaluations. Outcomes come back in any order; the driver puts them in order again.

    Settings are keyword-only in the constructor. An executor belongs to one run and is opened for one stage at a time.
    """

    @abstractmethod
    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Get ready for a stage.

        Args:
            source: makes the evaluator.
            starting: to be called with the numbers of trials before their evaluation begins; it records them.
            timeout: seconds after which an evaluation is stopped and its trial FAILED; None: no limit.

        Raises:
            ConfigurationError: it cannot stop an evaluation, and a timeout is asked for.
        """

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""

    def resubmit(self, request: Request) -> bool:
        """Accept a request whose evaluation an earlier process began, and did not see the end of; return at once.

        Returns:
            False, the default: it was not accepted; the caller evaluates it apart, in case it was the candidate that
            ended that process. True says that evaluations outlive the driver: this one may be going on, or be done.
        """
        return False

    @abstractmethod
    def next(self) -> Outcome | Crash | None:
        """Wait for something to happen and return it; None after a short while, so that the caller can look round."""

    def next_all(self) -> Sequence[Outcome | Crash]:
        """Wait as `next` does, and return what has happened by then (default: what `next` returns, if anything)."""
        event = self.next()
        return () if event is None else (event,)

    @abstractmethod
    def close(self) -> list[int]:
        """Stop, drop what is left, and return the numbers of the trials whose evaluation was begun and not finished."""


class InProcess(Executor):
    """Evaluates in the process of the driver, one request after the other: breakpoints work.

    As many evaluations as take about a millisecond, going by those before, are recorded as started together.
    """

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()
        self._announced = 0  # so many at the head of the queue are recorded as started
        self._now = 0.0  # when the last outcome came
        self._measured, self._spent = 0, 0.0  # outcomes since the last such record, and the seconds they took
        self._error: Exception | None = None
        self._running: dict[int, Request] = {}
        self._evaluator: Evaluator | None = None
        self._outcomes: Iterator[Outcome] | None = None
        self._alone: deque[Request] = deque()

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Get ready for a stage; see `Executor.open`."""
        if timeout is not None:
            raise ConfigurationError(
                "a timeout needs worker processes, which can be stopped; set executor: processes", path="timeout"
            )
        self._source, self._starting = source, starting
        self._evaluator = self._outcomes = None

    def submit(self, request: Request) -> None:
        """Accept a request; it is evaluated when `next` is called."""
        self._queue.append(request)

    def next(self) -> Outcome | Crash | None:
        """Evaluate until there is an outcome."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if self._evaluator is None:
            self._evaluator = self._source()
        if self._alone:
            return self._repeat(self._alone.popleft())
        if self._outcomes is None:
            if not self._queue:
                return None
            self._outcomes = iter(self._evaluator.evaluate(self._take()))
        begun = time.perf_counter()
        try:
            outcome = next(self._outcomes)
        except StopIteration:
            self._outcomes = None
            if self._running:
                numbers = ", ".join(map(str, self._running))
                raise EvaluationError(
                    f"{type(self._evaluator).__name__}.evaluate gave no outcome for trial {numbers}"
                ) from None
            return None
        except (Exception, SystemExit) as error:
            # The generator is dead. Whoever was alone has failed; those who shared work get a try of their own.
            self._outcomes = None
            failed = list(self._running.values())
            if len(failed) == 1:
                self._running.clear()
                return _failure(failed[0], error, begun)
            self._alone.extend(failed)
            return None
        if not isinstance(outcome, Outcome):
            raise _no_outcome(self._evaluator, outcome)
        request = self._running.pop(outcome.number, None)
        if request is None:
            raise EvaluationError(
                f"{type(self._evaluator).__name__}.evaluate answered trial {outcome.number}, which was not asked"
            )
        self._now = time.perf_counter()
        spent = self._now - begun
        self._measured += 1
        self._spent += spent
        return _completed(outcome, request.report, spent)

    def next_all(self) -> Sequence[Outcome | Crash]:
        """Evaluate for a millisecond, or until there is an outcome; see `Executor.next_all`."""
        events: list[Outcome | Crash] = []
        until = time.perf_counter() + QUICK
        try:
            while (event := self.next()) is not None:
                events.append(event)
                if self._now >= until:
                    break
        except Exception as error:
            if not events:
                raise
            self._error = error  # what was found before it counts first
        return events

    def close(self) -> list[int]:
        """Drop what is left."""
        begun = [*self._running, *(request.number for request in islice(self._queue, self._announced))]
        self._announced = 0
        self._queue.clear()
        self._alone.clear()
        self._running.clear()
        self._evaluator = self._outcomes = None
        return begun

    def _take(self) -> Iterator[Request]:
        assert self._evaluator is not None
        queue, running, stochastic = self._queue, self._running, self._evaluator.stochastic
        while queue:
            if not self._announced:
                self._announce()
            self._announced -= 1
            request = queue.popleft()
            running[request.number] = request
            if stochastic:
                seed_globally(request.seed)
            yield request

    def _announce(self) -> None:
        quick = int(self._measured * QUICK / self._spent) if self._spent else 1
        numbers = [request.number for request in islice(self._queue, max(1, quick))]
        self._starting(numbers)
        self._announced = len(numbers)
        self._measured, self._spent = 0, 0.0

    def _repeat(self, request: Request) -> Outcome:
        assert self._evaluator is not None
        outcome = evaluate_alone(self._evaluator, request)
        del self._running[request.number]
        return outcome


def evaluate_alone(evaluator: Evaluator, request: Request) -> Outcome:
    """Evaluate one request; an exception becomes a FAILED outcome."""
    begun = time.perf_counter()
    if evaluator.stochastic:
        seed_globally(request.seed)
    reports = Reports()  # what it reported while it shared work is void
    try:
        outcomes = list(evaluator.evaluate(iter([replace(request, report=reports)])))
    except (Exception, SystemExit) as error:
        return _failure(request, error, begun)
    for outcome in outcomes:
        if not isinstance(outcome, Outcome):
            raise _no_outcome(evaluator, outcome)
    if [outcome.number for outcome in outcomes] != [request.number]:
        raise EvaluationError(
            f"{type(evaluator).__name__}.evaluate gave {len(outcomes)} outcomes for trial {request.number} alone"
        )
    return _completed(outcomes[0], reports, time.perf_counter() - begun)


def _no_outcome(evaluator: Evaluator, given: object) -> EvaluationError:
    return EvaluationError(
        f"{type(evaluator).__name__}.evaluate gave {given!r}, a {type(given).__name__}; what it yields is "
        "Outcome(request.number, {metric: value})"
    )


def _completed(outcome: Outcome, report: Callable[[int, float], None], spent: float) -> Outcome:
    """Return an outcome with its duration, where the evaluator gave none, and what it reported on the way."""
    values = report.values if isinstance(report, Reports) else []
    if outcome.seconds and not values:
        return outcome
    fields = {**vars(outcome), "seconds": outcome.seconds or spent}
    if values:
        fields["info"] = {**outcome.info, "intermediate": values}
    return new_frozen(Outcome, fields)


def _failure(request: Request, error: BaseException, begun: float) -> Outcome:
    seconds = time.perf_counter() - begun
    if isinstance(error, Pruned):
        return Outcome(request.number, state=State.PRUNED, seconds=seconds)
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return Outcome(request.number, state=State.FAILED, error=line[:500], seconds=seconds)
