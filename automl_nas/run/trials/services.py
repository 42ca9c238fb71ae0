"""The services a strategy is given: numbering, recording, replaying and evaluating its trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from automl_nas.errors import ConfigurationError, EvaluationError, PluginError
from automl_nas.evaluation.evaluator import Outcome, State
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.interruption import StopFlag
from automl_nas.run.record.directory import MetricsFile, RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.replay import check_replay
from automl_nas.run.reporter import Reporter
from automl_nas.run.trials.dispatch import EvaluationDispatcher, Job
from automl_nas.run.trials.executor import Executor
from automl_nas.run.trials.recording import Recorder
from automl_nas.run.trials.trial_seeds import TrialSeeds
from automl_nas.space.architecture import Architecture
from automl_nas.space.architecture_validator import ArchitectureValidator
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.base import Services
from automl_nas.strategy.trial import Proposal, Trial


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
        isolated: makes an executor that survives a candidate that kills its process.
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
        isolated: Callable[[], Executor],
        stop: StopFlag,
        reporter: Reporter,
        observe: Callable[[Trial], None],
        environment_changes: Sequence[str],
    ) -> None:
        self._stage, self._settings, self._path = stage, stage.settings, stage.path
        self._members = ArchitectureValidator(space)
        self._recorder = Recorder(stage)
        self._trial_seed, self._ledger, self._metrics = TrialSeeds(seed), ledger, metrics
        self._reporter, self._observe, self._changes = reporter, observe, environment_changes
        self._evaluations: EvaluationDispatcher | None = None
        if executor is not None:
            self._evaluations = EvaluationDispatcher(
                executor, isolated, ledger, directory.scratch, self._trial_seed, self._finish, stop, reporter
            )
        self._uncollected: set[int] = set()
        self._collected: list[Trial] = []
        self._complete: list[Trial] = []
        self._submitted = 0
        self._failures = 0
        self._fresh: set[int] = set()
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
                for number, p in (self._evaluations.outstanding if self._evaluations else {}).items()
            ],
        }

    def begin(self, state: Mapping[str, Any]) -> None:
        """Start from a checkpoint: earlier trials become visible, and those outstanding are evaluated again."""
        self.next_number = state["next_number"]
        self._submitted = state.get("submitted", 0)
        self._failures = state.get("failures", 0)
        self._spent = state.get("seconds", 0.0)
        self._uncollected = set(state.get("uncollected", ()))
        known = self._ledger.trials
        collected = [n for n in range(self.next_number) if n not in self._uncollected and n in known]
        self._collect([known[number] for number in collected])
        for item in state.get("pending", ()):
            if item["number"] not in self._ledger.trials:
                assert self._evaluations is not None
                proposal = Proposal(Architecture(item["architecture"]), item["fidelity"], item["info"])
                self._evaluations.add([(item["number"], proposal)])

    @property
    def seconds(self) -> float:
        """How long the stage has worked, over all processes."""
        return self._spent + time.monotonic() - self._begun

    @property
    def outstanding(self) -> int:
        """How many trials were submitted and have no outcome yet, or one that was not handed out."""
        return len(self._uncollected)

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
        first = self.next_number
        known_trials, validate = self._ledger.trials, self._members.validate
        free: list[Trial] = []
        unknown: list[tuple[int, Proposal]] = []
        for number, proposal in enumerate(proposals, start=first):
            if not isinstance(proposal, Proposal):
                raise PluginError(
                    f"the strategy of the stage '{self._settings.name}' proposed {proposal!r}, a "
                    f"{type(proposal).__name__}; a candidate is Proposal(architecture)"
                )
            architecture = validate(proposal.architecture)
            if architecture is not proposal.architecture:
                proposal = Proposal(architecture, proposal.fidelity, proposal.info)
            self.next_number += 1
            self._submitted += 1
            self._uncollected.add(number)
            known = known_trials.get(number)
            if known is not None:
                check_replay(self._ledger.path, known, proposal, self._settings.name, self._changes)
            elif self._evaluations is None:
                self._check_comparable()
                free.append(self._recorder.trial(proposal, Outcome(number), self._trial_seed(number)))
            else:
                unknown.append((number, proposal))
        if free:
            self._record(free)
        if self._evaluations is not None and unknown:
            self._evaluations.add(unknown)
        return list(range(first, self.next_number))

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """See `Services.results`."""
        known = self._ledger.trials
        for number in numbers:
            while number not in known:
                assert self._evaluations is not None, f"trial {number} was never submitted"
                self._evaluations.advance(number)
        self._ledger.flush()  # nobody is told what is not recorded
        trials = [known[number] for number in numbers]
        fresh, uncollected = list[Trial](), self._uncollected
        for trial in trials:
            if trial.number in uncollected:
                uncollected.discard(trial.number)
                fresh.append(trial)
        self._collect(fresh)
        self._count_failures(fresh)
        self._report_count()
        return trials

    def settle(self) -> None:
        """Wait for what is outstanding: recorded like the rest, though the strategy is not told any more."""
        self.results(sorted(self._uncollected))

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
        """See `Services.trials`. Finished trials that were not yet handed out are left out, so timing shows nowhere."""
        found = self._complete if state is State.COMPLETE else self._collected
        if stage is None and state in (None, State.COMPLETE):
            return tuple(found)
        return tuple(t for t in found if (stage is None or t.stage == stage) and (state is None or t.state is state))

    def close(self) -> None:
        """Stop evaluating; what was being evaluated is released."""
        if self._evaluations is not None:
            self._evaluations.close()

    # --- record ------------------------------------------------------------------------------------------------------

    def _finish(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        make = self._recorder.trial
        trials: list[Trial] = []
        try:
            for (proposal, request), outcome in done:
                trials.append(make(proposal, outcome, request.seed))
        finally:  # one that cannot be recorded does not take those before it along
            if trials:
                self._record(trials)

    def _record(self, trials: Sequence[Trial]) -> None:
        self._ledger.finished(trials)
        self._fresh.update(trial.number for trial in trials)
        for trial in trials:
            self._reporter.trial(trial)
            self._observe(trial)
        self._report_count()

    def _report_count(self) -> None:
        """Say how many trials are finished, for a strategy that does not say itself how far it is."""
        if not self._reports_itself and self._submitted:
            total, planned = self._settings.budget.trials, self.planned
            if planned is not None and (total is None or planned < total):
                total = planned
            self._reporter.progress(self._submitted - len(self._evaluations or ()), total, "trials")

    def _collect(self, trials: Sequence[Trial]) -> None:
        # By number, in whatever order a strategy asks for results: so it is after a resume.
        for kept, found in (
            (self._collected, trials),
            (self._complete, [trial for trial in trials if trial.state is State.COMPLETE]),
        ):
            ordered = not kept or not found or kept[-1].number < found[0].number
            kept += found
            if not ordered or any(one.number > other.number for one, other in pairwise(found)):
                kept.sort(key=lambda known: known.number)  # two runs in order: as quick as putting in one by one

    def _count_failures(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state is not State.FAILED:
                self._failures = 0
                continue
            self._failures += 1
            # Those that an earlier process recorded are counted, but only a new one ends the run: otherwise a run that
            # was ended by failures could never be resumed.
            if trial.number in self._fresh and self._failures >= self._settings.max_failures:
                raise EvaluationError(
                    f"{self._failures} trials in a row failed in the stage '{self._settings.name}', the last one "
                    f"(trial {trial.number}) with: {trial.error}; mend the cause and resume: the search goes on with "
                    f"its next candidates. A new run may allow more ({join(self._path, 'max_failures')})"
                )
        self._fresh.difference_update([trial.number for trial in trials])

    def _check_comparable(self) -> None:
        """A strategy that derives one network needs no evaluator; one that proposes several cannot do without."""
        problem = self._stage.problem
        missing = [name for name in problem.objectives if name not in problem.cost_models]
        if missing and self._submitted > 1:
            raise ConfigurationError(
                f"candidates of this stage are to be compared by '{missing[0]}', which is no cost, and nothing "
                "measures it: give the stage an evaluator, or an objective that is a cost",
                path=join(self._path, "evaluator"),
            )
