"""Executors run evaluations: the interface `Executor`, and `InProcess` for the process of the driver."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import ClassVar

from automl_nas.errors import ConfigurationError, EvaluationError, Pruned
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Reports, Request, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.record.atomic_files import CannotWriteError
from automl_nas.run.trials.rehearsal import Rehearsal
from automl_nas.run.trials.trial_seeds import seed_globally

BATCH_SECONDS = 1e-3
"""Evaluations of `InProcess` that take no longer than this together are one batch: they are recorded as started with
one write and as finished with another. A crash loses at most one batch, which is evaluated again as fast. It saves 8 of
41 microseconds a trial (benchmarks/driver_overhead.py, batch 100)."""

EvaluatorSource = Callable[[], Evaluator]
"""Returns the evaluator of a stage. It can be pickled: in a worker process it builds it from the configuration."""


@dataclass(frozen=True)
class Crash:
    """An evaluation during which its process died.

    Attributes:
        number: of the trial.
        reason: how the process ended, e.g. ``killed by signal 9``.
    """

    number: int
    reason: str


class Executor(ABC):
    """Runs evaluations. Outcomes are returned in any order; the driver sorts them.

    Settings are keyword-only in the constructor. An executor belongs to one run and is opened for one stage at a time.

    Attributes:
        remote: whether processes that the run does not start do the evaluations, each with a device and threads of its
            own; the process of the run then needs the configured device only if it trains something itself.
    """

    remote: ClassVar[bool] = False

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Check before a run begins that its evaluations can begin (default: nothing is checked).

        Called once, on an executor that is not opened, before anything is written or trained: what `open` and the first
        evaluation would refuse is found here. The methods of `Rehearsal` are the usual checks.

        Raises:
            ConfigurationError: with the path of the setting and the way out.
        """
        return None

    @abstractmethod
    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Prepare for the evaluations of a stage.

        Args:
            source: returns the evaluator.
            starting: must be called with the numbers of trials before their evaluation begins; it records them.
            timeout: seconds after which an evaluation is stopped and its trial FAILED; None: no limit.

        Raises:
            ConfigurationError: a timeout is configured, and this executor cannot stop an evaluation.
        """

    @abstractmethod
    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""

    def resubmit(self, request: Request) -> bool:
        """Accept a request whose evaluation an earlier process began and did not finish; return at once.

        Returns:
            Whether the request was accepted. True: evaluations continue without the driver, and this one may be
            running or finished. False, the default: the caller evaluates it in an isolated process, because the
            candidate may have killed the earlier process.
        """
        return False

    @abstractmethod
    def next(self) -> Outcome | Crash | None:
        """Wait for an outcome or a crash and return it; return None after a short time, so that a stop is noticed."""

    def next_all(self) -> Sequence[Outcome | Crash]:
        """Wait as `next` does, and return all outcomes and crashes since (default: the one that `next` returns)."""
        event = self.next()
        return () if event is None else (event,)

    @abstractmethod
    def close(self) -> list[int]:
        """Stop, drop waiting requests, and return the numbers of the trials that were started and not finished."""


class InProcess(Executor):
    """Evaluates in the process of the driver, one request after the other: breakpoints work.

    Evaluations that will take `BATCH_SECONDS` together, estimated from earlier ones, are recorded as started together.
    """

    def __init__(self) -> None:
        self._queue: deque[Request] = deque()
        self._announced = 0  # number of requests at the head of the queue that are recorded as started
        self._now = 0.0  # time of the last outcome
        self._measured, self._spent = 0, 0.0  # outcomes since the last announcement, and the seconds they took
        self._error: Exception | None = None
        self._running: dict[int, Request] = {}
        self._evaluator: Evaluator | None = None
        self._outcomes: Iterator[Outcome] | None = None
        self._alone: deque[Request] = deque()

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Check that no stage has a timeout; see `Executor.rehearse`."""
        rehearsal.refuse_timeouts()

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Prepare for the evaluations of a stage; see `Executor.open`."""
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
            self._outcomes = _iterator(self._evaluator, self._evaluator.evaluate(self._take()))
        begun = time.perf_counter()
        try:
            outcome = next(self._outcomes)
        except StopIteration:
            self._outcomes = None
            if self._running:
                numbers = ", ".join(map(str, self._running))
                raise EvaluationError(
                    f"{type(self._evaluator).__name__}.evaluate yielded no outcome for trial {numbers}"
                ) from None
            return None
        except (KeyboardInterrupt, CannotWriteError):  # Ctrl-C; the ledger cannot record the start of an evaluation
            raise
        except BaseException as error:
            # The generator has ended. A request that was alone has failed; those that shared work are repeated alone.
            self._outcomes = None
            failed = list(self._running.values())
            if len(failed) == 1:
                self._running.clear()
                return _failure(failed[0], error, begun)
            self._alone.extend(failed)
            return None
        if not isinstance(outcome, Outcome):
            raise _not_an_outcome(self._evaluator, outcome)
        request = self._running.pop(outcome.number, None)
        if request is None:
            raise EvaluationError(
                f"{type(self._evaluator).__name__}.evaluate yielded an outcome for trial {outcome.number}, which it "
                "did not receive"
            )
        self._now = time.perf_counter()
        spent = self._now - begun
        self._measured += 1
        self._spent += spent
        return _completed(outcome, request.report, spent)

    def next_all(self) -> Sequence[Outcome | Crash]:
        """Evaluate for `BATCH_SECONDS`, or until there is an outcome; see `Executor.next_all`."""
        events: list[Outcome | Crash] = []
        until = time.perf_counter() + BATCH_SECONDS
        try:
            while (event := self.next()) is not None:
                events.append(event)
                if self._now >= until:
                    break
        except Exception as error:
            if not events:
                raise
            self._error = error  # raised by the next call: the outcomes before it come first
        return events

    def close(self) -> list[int]:
        """Drop waiting requests; see `Executor.close`."""
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
        count = int(self._measured * BATCH_SECONDS / self._spent) if self._spent else 1
        numbers = [request.number for request in islice(self._queue, max(1, count))]
        self._starting(numbers)
        self._announced = len(numbers)
        self._measured, self._spent = 0, 0.0

    def _repeat(self, request: Request) -> Outcome:
        assert self._evaluator is not None
        outcome = evaluate_alone(self._evaluator, request)
        del self._running[request.number]
        return outcome


def evaluate_alone(evaluator: Evaluator, request: Request, *, in_worker: bool = False) -> Outcome:
    """Evaluate one request; an exception becomes a FAILED outcome.

    Args:
        evaluator: evaluates the request.
        request: to be evaluated.
        in_worker: whether KeyboardInterrupt is an exception like others, because Ctrl-C does not reach this process.
    """
    begun = time.perf_counter()
    if evaluator.stochastic:
        seed_globally(request.seed)
    reports = Reports()  # values that it reported while it shared work are dropped
    try:
        outcomes = list(_iterator(evaluator, evaluator.evaluate(iter([replace(request, report=reports)]))))
    except CannotWriteError:
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not in_worker:
            raise
        return _failure(replace(request, report=reports), error, begun)
    for outcome in outcomes:
        if not isinstance(outcome, Outcome):
            raise _not_an_outcome(evaluator, outcome)
    if [outcome.number for outcome in outcomes] != [request.number]:
        raise EvaluationError(
            f"{type(evaluator).__name__}.evaluate yielded {len(outcomes)} outcomes for trial {request.number} alone"
        )
    return _completed(outcomes[0], reports, time.perf_counter() - begun)


def timed_out(request: Request | None, begun: float, timeout: float | None) -> Outcome | None:
    """Return the FAILED outcome of an evaluation that takes longer than its timeout; None: it does not.

    Args:
        request: in evaluation; None: there is no evaluation.
        begun: when it began, by `time.monotonic`.
        timeout: in seconds; None: no limit.
    """
    spent = time.monotonic() - begun
    if request is None or timeout is None or spent <= timeout:
        return None
    error = f"stopped after its timeout of {timeout:g} s"
    return Outcome(request.number, state=State.FAILED, error=error, seconds=spent)


def _iterator(evaluator: Evaluator, outcomes: object) -> Iterator[Outcome]:
    if not isinstance(outcomes, Iterable):
        raise EvaluationError(
            f"{type(evaluator).__name__}.evaluate returned {outcomes!r}, a {type(outcomes).__name__}; it must yield "
            "Outcome(request.number, {metric: value}) for each request"
        )
    return iter(outcomes)


def _not_an_outcome(evaluator: Evaluator, value: object) -> EvaluationError:
    return EvaluationError(
        f"{type(evaluator).__name__}.evaluate yielded {value!r}, a {type(value).__name__}; it must yield "
        "Outcome(request.number, {metric: value})"
    )


def _completed(outcome: Outcome, report: Callable[[int, float], None], spent: float) -> Outcome:
    """Return an outcome with its duration, unless the evaluator set it, and with the reported intermediate values."""
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
        return _completed(Outcome(request.number, state=State.PRUNED, seconds=seconds), request.report, seconds)
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return Outcome(request.number, state=State.FAILED, error=line[:500], seconds=seconds)
