"""The outstanding trials of a stage: they are sent to an executor, and their outcomes are returned."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, final

from automl_nas.errors import ConfigurationError, EvaluationError, ReplayError, RunInterrupted
from automl_nas.evaluation.evaluator import Earlier, Outcome, Reports, Request, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Notifications
from automl_nas.run.record.atomic_files import CannotWriteError
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.trials.executor import Crash, Executor
from automl_nas.run.trials.stage_executors import StageExecutors
from automl_nas.run.trials.trial_seeds import trial_seed
from automl_nas.strategy.trial import Proposal

CRASHES = 2
"""Number of worker processes that a candidate may end before its trial is FAILED."""

STARTS = 10
"""Number of evaluations of a candidate that may begin without an end before its trial is FAILED, even if no crash was
seen: a run that takes the whole machine down each time must not be retried for ever."""

NOTHING: Mapping[int, Earlier] = MappingProxyType({})

Evaluated: TypeAlias = tuple[Proposal, Request, Outcome]
"""A proposal of the strategy, the request that the evaluator received, and its outcome."""


@final
class EvaluationDispatcher:
    """The outstanding trials of a stage.

    Candidates that were being evaluated when an earlier process died are suspects: they are evaluated in a worker
    process of their own, where they do no harm.

    Args:
        executors: of the stage.
        seed: of the stage.
        record: of the run; its ledger counts attempts.
        notifications: receive warnings.
        stop: whether to stop.
    """

    def __init__(
        self,
        executors: StageExecutors,
        seed: int,
        record: RunRecord,
        notifications: Notifications,
        stop: StopFlag,
    ) -> None:
        self._executors, self._seed, self._notifications, self._stop = executors, seed, notifications, stop
        self._ledger, self._scratch = record.ledger, str(record.directory.scratch)
        self._executor = executors.open_configured()
        self._isolated: Executor | None = None
        self._isolating = True
        self._suspects: set[int] = set()
        self._jobs: dict[int, tuple[Proposal, Request]] = {}

    @property
    def outstanding(self) -> dict[int, Proposal]:
        """The proposals without an outcome, by number."""
        return {number: proposal for number, (proposal, _) in sorted(self._jobs.items())}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(
        self, proposals: Iterable[tuple[int, Proposal]], earlier: Mapping[int, Earlier] = NOTHING
    ) -> Iterator[list[Evaluated]]:
        """Have proposals, each with the number of its trial, evaluated in the background.

        Args:
            proposals: with their numbers.
            earlier: number -> what the pruner of the stage compares the trial with; empty without a pruner.

        Returns:
            The outcomes of those that are not evaluated any more, in batches. The next one is computed when the caller
            has recorded the one before: the generator must be exhausted.
        """
        jobs, seed, scratch, attempts = self._jobs, self._seed, self._scratch, self._ledger.attempts
        for number, proposal in proposals:
            fields: dict[str, object] = {
                "number": number,
                "architecture": proposal.architecture,
                "seed": trial_seed(seed, number),
                "fidelity": proposal.fidelity,
                "_scratch": f"{scratch}/{number}",
                "report": Reports(),
                "earlier": earlier.get(number),
            }
            request = new_frozen(Request, fields)
            jobs[number] = proposal, request
            if number not in attempts:
                self._executor.submit(request)
                continue
            outcome = self._send_again(request)
            if outcome is not None:
                yield from self._take([outcome])

    def advance(self, awaited: int) -> Iterator[list[Evaluated]]:
        """Wait a little for outcomes, of whichever trials.

        Args:
            awaited: the number of the trial that the caller waits for.

        Returns:
            The outcomes in batches. The next one is computed when the caller has recorded the one before: the
            generator must be exhausted.

        Raises:
            RunInterrupted: a signal asked the run to stop.
        """
        if awaited not in self._jobs:
            raise ReplayError(
                f"trial {awaited} was asked for before the checkpoint, but {self._ledger.path} does not hold it and "
                "the checkpoint does not know it; delete the newest checkpoint and resume"
            )
        self._stop.consult()
        isolated = self._isolated if self._suspects else None
        ordinary = self._executor if len(self._jobs) > len(self._suspects) else None
        for executor in (isolated, ordinary):
            if self._stop.requested:
                raise RunInterrupted
            events = self._next(executor) if executor is not None else ()
            yield from self._take([event for event in events if not isinstance(event, Crash)])
            for crash in events:
                if not isinstance(crash, Crash):
                    continue
                if self._stop.requested:  # the signal went to all processes of the group: the candidate did nothing
                    self._ledger.released([crash.number])
                    raise RunInterrupted
                outcome = self._crashed(crash)
                if outcome is not None:
                    yield from self._take([outcome])

    def close(self) -> None:
        """Close the executors; unfinished evaluations are recorded as released."""
        executors = [executor for executor in (self._executor, self._isolated) if executor is not None]
        self._isolated = None
        unfinished = [number for executor in executors for number in executor.close()]
        self._ledger.released([number for number in unfinished if number not in self._ledger.trials])

    def _take(self, outcomes: Sequence[Outcome]) -> Iterator[list[Evaluated]]:
        if not outcomes:
            return
        jobs = self._jobs
        evaluated = [(*jobs.pop(outcome.number), outcome) for outcome in outcomes]
        if self._suspects:
            self._suspects.difference_update([outcome.number for outcome in outcomes])
        yield evaluated
        # They are recorded: the scratch folders are not needed any more. Most runs have none, and to check their parent
        # takes 10 microseconds a trial less than to try to remove each (benchmarks/driver_overhead.py).
        if os.access(self._scratch, os.F_OK):
            for _, request, _ in evaluated:
                if request.scratch is not None:
                    shutil.rmtree(request.scratch, ignore_errors=True)

    def _send_again(self, request: Request) -> Outcome | None:
        """Send a request whose evaluation was begun before; return a FAILED outcome if that happened too often."""
        number = request.number
        attempts = self._ledger.attempts[number]
        if attempts.crashed >= CRASHES or attempts.started >= STARTS:
            return _given_up(number, attempts.crashed or attempts.started)
        if attempts.started and self._executor.resubmit(request):
            return None
        if not (attempts.started and self._isolating):
            self._executor.submit(request)
            return None
        # It was being evaluated when its process died. In a process of its own it can do so again without harm, and if
        # it does, the candidate is the cause.
        self._suspects.add(number)
        try:
            self._isolated = self._isolated or self._executors.open_isolated()
            self._isolated.submit(request)
        except ConfigurationError as error:
            self._accept_suspects(error)
        return None

    def _next(self, executor: Executor) -> Sequence[Outcome | Crash]:
        try:
            return executor.next_all()
        except Exception as error:
            if self._stop.requested and isinstance(error, EvaluationError):
                raise RunInterrupted from None  # a worker that was just starting received the same signal
            if executor is not self._isolated or isinstance(error, CannotWriteError):
                raise
            # A worker process cannot be made for classes of a notebook, or in a script without a guard around its
            # calls. If the candidate or the evaluator is the cause, the ordinary executor meets the same error.
            self._accept_suspects(error)
            return ()

    def _accept_suspects(self, error: Exception) -> None:
        """Evaluate suspects like all other candidates: there can be no isolated process."""
        numbers = sorted(self._suspects)
        self._notifications.warn(
            f"an earlier process died while it evaluated trial {', '.join(map(str, numbers))}; no worker process can "
            f"be made to try that apart ({error}), so it is evaluated like any other"
        )
        self._isolating = False
        self._suspects.clear()
        if self._isolated is not None:
            self._ledger.released(self._isolated.close())
            self._isolated = None
        for number in numbers:
            self._executor.submit(self._jobs[number][1])

    def _crashed(self, crash: Crash) -> Outcome | None:
        """Record a crash and send the candidate again; return a FAILED outcome if it crashed too often."""
        number = crash.number
        self._ledger.crashed(number)
        self._suspects.discard(number)
        attempts = self._ledger.attempts[number]
        if attempts.crashed >= CRASHES or attempts.started >= CRASHES:
            count = max(attempts.crashed, attempts.started)
            return _given_up(number, count, f" (last: {crash.reason}; out of memory?)")
        self._notifications.warn(f"trial {number}: the worker process was {crash.reason}; it is tried once more")
        return self._send_again(self._jobs[number][1])


def _given_up(number: int, times: int, reason: str = "") -> Outcome:
    return Outcome(number, state=State.FAILED, error=f"its evaluation ended with the process {times} times{reason}")
