"""The services a strategy is given: numbering, recording, replaying and evaluating its trials."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automl_nas.errors import EvaluationError, ReplayError, RunInterrupted
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.plugin.located import join
from automl_nas.run.directory import MetricsFile, RunDirectory
from automl_nas.run.executors import Crash, Executor
from automl_nas.run.interruption import StopFlag
from automl_nas.run.ledger import Ledger
from automl_nas.run.plan import StagePlan
from automl_nas.run.reporter import Reporter
from automl_nas.search.strategy import Services
from automl_nas.search.trial import Proposal, Trial
from automl_nas.space.architecture import Architecture
from automl_nas.space.membership import Membership
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed

CRASHES = 2
"""So many deaths of a worker process, each with the same candidate, make it FAILED."""

STARTS = 10
"""A candidate that was begun so often without an end is FAILED even if nobody saw it kill a process: a run that takes the
whole machine down each time must not be retried for ever."""


class StageServices(Services):
    """Services of one stage.

    Args:
        stage: the stage.
        space: what is searched.
        seed: of the stage.
        directory: of the run.
        ledger: of the run.
        metrics: of the run.
        executor: opened for this stage; None: trials record costs only.
        isolated: makes an executor that survives a candidate that kills its process; None where none can be made.
        stop: whether to stop.
        reporter: who is told.
        observe: called with each newly recorded trial.
        environment_changes: what differs from the environment the run was begun in, for error messages.
    """

    def __init__(
        self,
        stage: StagePlan,
        space: SearchSpace,
        seed: int,
        directory: RunDirectory,
        ledger: Ledger,
        metrics: MetricsFile,
        executor: Executor | None,
        isolated: Callable[[], Executor] | None,
        stop: StopFlag,
        reporter: Reporter,
        observe: Callable[[Trial], None],
        environment_changes: Sequence[str],
    ) -> None:
        self._settings, self._problem, self._path = stage.settings, stage.problem, stage.path
        self._members = Membership(space)
        self._seed, self._directory, self._ledger, self._metrics = seed, directory, ledger, metrics
        self._executor, self._make_isolated, self._stop, self._reporter = executor, isolated, stop, reporter
        self._observe, self._changes = observe, environment_changes
        self._isolated: Executor | None = None
        self._suspects: set[int] = set()
        self._pending: dict[int, Proposal] = {}
        self._requests: dict[int, Request] = {}
        self._uncollected: set[int] = set()
        self._collected: list[Trial] = []
        self._complete: list[Trial] = []
        self._submitted = 0
        self._failures = 0
        self._reports_itself = False
        self._spent = 0.0
        self._begun = time.monotonic()
        self.next_number = 0
        self.planned: int | None = None

    # --- state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold besides the strategy's own state."""
        return {
            "next_number": self.next_number,
            "submitted": self._submitted,
            "failures": self._failures,
            "seconds": self.seconds,
            "uncollected": sorted(self._uncollected),
            "pending": [
                {
                    "number": number,
                    "architecture": p.architecture.to_dict(),
                    "fidelity": p.fidelity,
                    "info": dict(p.info),
                }
                for number, p in sorted(self._pending.items())
            ],
        }

    def begin(self, state: Mapping[str, Any]) -> None:
        """Start from a checkpoint: earlier trials become visible, and those that were outstanding are evaluated again."""
        self.next_number = state["next_number"]
        self._submitted = state.get("submitted", 0)
        self._failures = state.get("failures", 0)
        self._spent = state.get("seconds", 0.0)
        self._uncollected = set(state.get("uncollected", ()))
        for number in range(self.next_number):
            if number not in self._uncollected and number in self._ledger.trials:
                self._collect(self._ledger.trials[number])
        for item in state.get("pending", ()):
            if item["number"] not in self._ledger.trials:
                proposal = Proposal(Architecture(item["architecture"]), item["fidelity"], item["info"])
                self._pending[item["number"]] = proposal
                self._send(item["number"], proposal)

    @property
    def seconds(self) -> float:
        """How long the stage has worked, over all processes."""
        return self._spent + time.monotonic() - self._begun

    @property
    def recorded(self) -> int:
        """How many trials of the stage have been submitted."""
        return self._submitted

    # --- what strategies see -----------------------------------------------------------------------------------------

    @property
    def batch(self) -> int:
        """See `Services.batch`."""
        return self._settings.batch

    @property
    def ahead(self) -> int:
        """See `Services.ahead`."""
        return self._settings.ahead or self._settings.batch

    @property
    def remaining(self) -> int | None:
        """See `Services.remaining`."""
        budget = self._settings.budget
        if budget.seconds is not None and self.seconds >= budget.seconds:
            return 0
        return None if budget.trials is None else max(0, budget.trials - self._submitted)

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """See `Services.submit`."""
        numbers = []
        free: list[Trial] = []
        for proposal in proposals:
            number = self.next_number
            architecture = self._members.validate(proposal.architecture)
            if architecture is not proposal.architecture:
                proposal = Proposal(architecture, proposal.fidelity, proposal.info)
            self.next_number += 1
            self._submitted += 1
            self._uncollected.add(number)
            numbers.append(number)
            known = self._ledger.trials.get(number)
            if known is not None:
                self._check_replay(known, proposal)
            elif self._executor is None:
                free.append(self._trial(number, proposal, Outcome(number), self._trial_seed(number)))
            else:
                self._pending[number] = proposal
                self._send(number, proposal)
        if free:
            self._record(free)
        return numbers

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """See `Services.results`."""
        known = self._ledger.trials
        for number in numbers:
            while number not in known:
                self._pump(number)
        trials = [known[number] for number in numbers]
        for trial in trials:
            if trial.number in self._uncollected:
                self._uncollected.discard(trial.number)
                self._collect(trial)
                self._count_failure(trial)
        self._report_count()
        return trials

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """See `Services.log`."""
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.append({"stage": self._settings.name, "step": step, **record})
        self._reporter.logged(values, step)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """See `Services.progress`."""
        self._reports_itself = True
        self._reporter.progress(done, total, unit)

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """See `Services.trials`. Trials that are finished but not yet handed out are left out, so timing shows nowhere."""
        found = self._complete if state is State.COMPLETE else self._collected
        if stage is None and state in (None, State.COMPLETE):
            return tuple(found)
        return tuple(t for t in found if (stage is None or t.stage == stage) and (state is None or t.state is state))

    # --- evaluation --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the executors; what was being evaluated is released."""
        for executor in (self._executor, self._isolated):
            if executor is not None:
                self._ledger.released([number for number in executor.close() if number not in self._ledger.trials])
        self._isolated = None

    def _send(self, number: int, proposal: Proposal) -> None:
        attempts = self._ledger.attempts.get(number)
        if attempts is not None and (attempts.crashed >= CRASHES or attempts.started >= STARTS):
            deaths = attempts.crashed or attempts.started
            self._finish(
                Outcome(number, state=State.FAILED, error=f"its evaluation ended with the process {deaths} times")
            )
            return
        assert self._executor is not None
        request = Request(
            number,
            proposal.architecture,
            self._trial_seed(number),
            proposal.fidelity,
            self._directory.scratch / str(number),
        )
        self._requests[number] = request
        if attempts is not None and attempts.started and self._make_isolated is not None:
            # It was being evaluated when the whole process died. In a process of its own it can do so again without
            # harm, and if it does, we know that it was the candidate.
            self._isolated = self._isolated or self._make_isolated()
            self._suspects.add(number)
            self._isolated.submit(request)
        else:
            self._executor.submit(request)

    def _pump(self, wanted: int) -> None:
        if wanted not in self._pending:
            raise ReplayError(
                f"trial {wanted} was asked for before the checkpoint, but {self._ledger.path} does not hold it and the "
                "checkpoint does not "
                "know it; delete the newest checkpoint and resume"
            )
        for executor in (
            self._isolated if self._suspects else None,
            self._executor if len(self._pending) > len(self._suspects) else None,
        ):
            if self._stop.requested:
                raise RunInterrupted
            if executor is None:
                continue
            event = executor.next()
            if isinstance(event, Crash):
                self._crashed(event)
            elif event is not None:
                self._finish(event)

    def _crashed(self, crash: Crash) -> None:
        self._ledger.crashed(crash.number)
        self._suspects.discard(crash.number)
        attempts = self._ledger.attempts[crash.number]
        if attempts.crashed >= CRASHES or attempts.started >= CRASHES:
            times = max(attempts.crashed, attempts.started)
            error = f"its evaluation ended with the process {times} times (last: {crash.reason}); out of memory?"
            self._finish(Outcome(crash.number, state=State.FAILED, error=error))
        else:
            self._reporter.warning(
                f"trial {crash.number}: the worker process was {crash.reason}; it is tried once more"
            )
            self._send(crash.number, self._pending[crash.number])

    def _finish(self, outcome: Outcome) -> None:
        proposal = self._pending.pop(outcome.number)
        self._suspects.discard(outcome.number)
        request = self._requests.pop(outcome.number, None)
        seed = self._trial_seed(outcome.number) if request is None else request.seed
        self._record([self._trial(outcome.number, proposal, outcome, seed)])
        if request is not None and request.scratch is not None and os.path.lexists(request.scratch):
            shutil.rmtree(request.scratch, ignore_errors=True)

    def _record(self, trials: Sequence[Trial]) -> None:
        self._ledger.finished(trials)
        for trial in trials:
            self._reporter.trial(trial)
            self._observe(trial)
        self._report_count()

    def _report_count(self) -> None:
        """Say how many trials are finished, for a strategy that does not say itself how far it is."""
        if not self._reports_itself and self._submitted:
            known = [total for total in (self._settings.budget.trials, self.planned) if total is not None]
            self._reporter.progress(self._submitted - len(self._pending), min(known, default=None), "trials")

    def _trial_seed(self, number: int) -> int:
        return stream_seed(self._seed, "trial", number) & 0x7FFFFFFF

    def _trial(self, number: int, proposal: Proposal, outcome: Outcome, seed: int) -> Trial:
        state, error = outcome.state, outcome.error
        metrics = {name: float(value) for name, value in outcome.metrics.items()}
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if state is State.COMPLETE and bad:
            state, error = State.FAILED, f"{bad[0]} is {metrics[bad[0]]}"
        if bad:
            metrics = {name: value for name, value in metrics.items() if name not in bad}
        return Trial(
            number=number,
            architecture=proposal.architecture,
            metrics=metrics,
            costs=self._problem.costs(proposal.architecture),
            violations=self._problem.violations(proposal.architecture, metrics if state is State.COMPLETE else None),
            state=state,
            stage=self._settings.name,
            fidelity=proposal.fidelity,
            seed=seed,
            seconds=outcome.seconds,
            error=error,
            info={**proposal.info, **outcome.info},
        )

    # --- record ------------------------------------------------------------------------------------------------------

    def _collect(self, trial: Trial) -> None:
        self._collected.append(trial)
        if trial.state is State.COMPLETE:
            self._complete.append(trial)

    def _count_failure(self, trial: Trial) -> None:
        self._failures = self._failures + 1 if trial.state is State.FAILED else 0
        if self._failures >= self._settings.max_failures:
            raise EvaluationError(
                f"{self._failures} trials in a row failed in the stage '{self._settings.name}', the last one (trial "
                f"{trial.number}) with: "
                f"{trial.error}; mend the cause and resume, or raise {join(self._path, 'max_failures')}"
            )

    def _check_replay(self, known: Trial, proposal: Proposal) -> None:
        same = known.architecture == proposal.architecture and known.fidelity == proposal.fidelity
        if same and known.stage == self._settings.name:
            return
        changed = (
            "; ".join(self._changes)
            or "no recorded version or setting changed, so a component is not a function of its seed and state"
        )
        raise ReplayError(
            f"trial {known.number} of {self._ledger.path} is {known.architecture.key} in stage '{known.stage}', but "
            "the resumed stage "
            f"'{self._settings.name}' asks for {proposal.architecture.key}; since it was recorded: {changed}"
        )
