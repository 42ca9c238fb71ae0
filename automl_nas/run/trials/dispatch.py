"""Getting candidates evaluated: the executor of a stage, and what to do with those that kill their process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

from automl_nas.errors import ConfigurationError, EvaluationError, ReplayError, RunInterrupted
from automl_nas.evaluation.evaluator import Outcome, Reports, Request, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.interruption import StopFlag
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.reporter import Reporter
from automl_nas.run.trials.executor import Crash, Executor
from automl_nas.strategy.trial import Proposal

CRASHES = 2
"""So many deaths of a worker process, each with the same candidate, make it FAILED."""

STARTS = 10
"""A candidate that was begun so often without an end is FAILED even if nobody saw it kill a process: a run that takes
the whole machine down each time must not be retried for ever."""


Job: TypeAlias = tuple[Proposal, Request]
"""A proposal that is being evaluated, as the strategy made it and as the evaluator gets it."""


class EvaluationDispatcher:
    """The trials of a stage that are outstanding.

    Args:
        executor: opened for the stage.
        isolated: makes an executor that survives a candidate that kills its process.
        ledger: of the run: it counts attempts.
        scratch: the folder in which each trial may have one of its own.
        seed_of: number -> the trial's seed.
        finished: told of outcomes, each with its job.
        stop: whether to stop.
        reporter: is told.
    """

    def __init__(
        self,
        executor: Executor,
        isolated: Callable[[], Executor],
        ledger: Ledger,
        scratch: Path,
        seed_of: Callable[[int], int],
        finished: Callable[[Sequence[tuple[Job, Outcome]]], None],
        stop: StopFlag,
        reporter: Reporter,
    ) -> None:
        self._executor, self._make_isolated, self._ledger, self._scratch = executor, isolated, ledger, str(scratch)
        self._seed_of, self._finished, self._stop, self._reporter = seed_of, finished, stop, reporter
        self._isolated: Executor | None = None
        self._isolating = True
        self._suspects: set[int] = set()
        self._jobs: dict[int, Job] = {}

    @property
    def outstanding(self) -> dict[int, Proposal]:
        """The proposals without an outcome, by number."""
        return {number: proposal for number, (proposal, _) in sorted(self._jobs.items())}

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, proposals: Iterable[tuple[int, Proposal]]) -> None:
        """Have proposals, each with its trial's number, evaluated in the background."""
        jobs, seed_of, scratch, attempts = self._jobs, self._seed_of, self._scratch, self._ledger.attempts
        for number, proposal in proposals:
            fields: dict[str, object] = {
                "number": number,
                "architecture": proposal.architecture,
                "seed": seed_of(number),
                "fidelity": proposal.fidelity,
                "_scratch": f"{scratch}/{number}",
                "report": Reports(),
            }
            request = new_frozen(Request, fields)
            jobs[number] = proposal, request
            if number in attempts:
                self._send(request)
            else:
                self._executor.submit(request)

    def advance(self, wanted: int) -> None:
        """Wait a little for an outcome, of whichever trial.

        Args:
            wanted: the trial that the caller waits for.

        Raises:
            RunInterrupted: somebody asked the run to stop.
        """
        if wanted not in self._jobs:
            raise ReplayError(
                f"trial {wanted} was asked for before the checkpoint, but {self._ledger.path} does not hold it and the "
                "checkpoint does not know it; delete the newest checkpoint and resume"
            )
        isolated = self._isolated if self._suspects else None
        ordinary = self._executor if len(self._jobs) > len(self._suspects) else None
        for executor in (isolated, ordinary):
            if self._stop.requested:
                raise RunInterrupted
            events = self._next(executor) if executor is not None else ()
            self._finish([event for event in events if not isinstance(event, Crash)])
            for crash in events:
                if isinstance(crash, Crash):
                    if self._stop.requested:  # the signal was for the whole group: the candidate is not to blame
                        self._ledger.released([crash.number])
                        raise RunInterrupted
                    self._crashed(crash)

    def close(self) -> None:
        """Stop the executors; what was being evaluated is released."""
        for executor in (self._executor, self._isolated):
            if executor is not None:
                self._ledger.released([number for number in executor.close() if number not in self._ledger.trials])
        self._isolated = None

    def _send(self, request: Request) -> None:
        number = request.number
        attempts = self._ledger.attempts.get(number)
        if attempts is None:
            self._executor.submit(request)
        elif attempts.crashed >= CRASHES or attempts.started >= STARTS:
            self._give_up(number, attempts.crashed or attempts.started, "")
        elif attempts.started and self._executor.resubmit(request):
            pass
        elif attempts.started and self._isolating:
            # It was being evaluated when its process died. In one of its own it can do so again without harm, and if it
            # does, we know that it was the candidate.
            self._suspects.add(number)
            try:
                self._isolated = self._isolated or self._make_isolated()
                self._isolated.submit(request)
            except ConfigurationError as error:
                self._accept_suspects(error)
        else:
            self._executor.submit(request)

    def _next(self, executor: Executor) -> Sequence[Outcome | Crash]:
        try:
            return executor.next_all()
        except Exception as error:
            if self._stop.requested and isinstance(error, EvaluationError):
                raise RunInterrupted from None  # a worker that was just starting got the same signal
            if executor is not self._isolated:
                raise
            # A worker process that cannot be made, for classes of a notebook, say, or in a script without a guard round
            # its calls. Where the candidate or the evaluator is to blame, the ordinary executor meets the same error.
            self._accept_suspects(error)
            return ()

    def _accept_suspects(self, error: Exception) -> None:
        """Evaluate suspects like all others: a process of their own cannot be had."""
        numbers = sorted(self._suspects)
        self._reporter.warning(
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

    def _crashed(self, crash: Crash) -> None:
        number = crash.number
        self._ledger.crashed(number)
        self._suspects.discard(number)
        attempts = self._ledger.attempts[number]
        if attempts.crashed >= CRASHES or attempts.started >= CRASHES:
            self._give_up(number, max(attempts.crashed, attempts.started), f" (last: {crash.reason}; out of memory?)")
        else:
            self._reporter.warning(f"trial {number}: the worker process was {crash.reason}; it is tried once more")
            self._send(self._jobs[number][1])

    def _give_up(self, number: int, times: int, reason: str) -> None:
        error = f"its evaluation ended with the process {times} times{reason}"
        self._finish([Outcome(number, state=State.FAILED, error=error)])

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        jobs = self._jobs
        done = [(jobs.pop(outcome.number), outcome) for outcome in outcomes]
        if self._suspects:
            self._suspects.difference_update([outcome.number for outcome in outcomes])
        self._finished(done)
        # Most runs never have a folder of folders, and to see that is quicker than to look for one of them.
        if os.access(self._scratch, os.F_OK):
            for (_, request), _ in done:
                if request.scratch is not None:
                    shutil.rmtree(request.scratch, ignore_errors=True)
