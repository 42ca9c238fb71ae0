"""The services that a stage offers its strategy: trials are numbered, evaluated, recorded and replayed."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, final

from automl_nas.errors import ConfigurationError, EvaluationError, PluginError, RunDirectoryError, SpaceError
from automl_nas.evaluation.evaluator import Earlier, Outcome, State
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.ranks import SOLO, Ranks
from automl_nas.plugin.events import NumbersLogged, ProgressMade, TrialFinished, deep_freeze, frozen_trial
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.notifications import Notifications
from automl_nas.run.record.replay import check_replay
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.trials.dispatch import Evaluated, EvaluationDispatcher
from automl_nas.run.trials.failure_patterns import failure_pattern
from automl_nas.run.trials.pruning import StageHistory
from automl_nas.run.trials.recording import Recorder
from automl_nas.run.trials.trial_seeds import trial_seed
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.base import Services
from automl_nas.strategy.trial import Proposal, Trial

_NUMBERS = frozenset((int, float))


@final
class StageServices(Services):
    """Services of one stage.

    A trial takes one way: `submit` sends it to the dispatcher, `results` receives its outcome from there and records
    it in the ledger.

    Args:
        stage: the stage.
        space: the search space.
        seed: of the stage.
        dispatcher: has candidates evaluated; None: trials record costs only.
        record: of the run.
        notifications: receive the events.
        ranks: of the run.

    Attributes:
        next_number: the number of the next trial of the run.
        planned: number of trials that the strategy will submit; None if it is unknown.
    """

    def __init__(
        self,
        stage: StagePlan,
        space: SearchSpace,
        seed: int,
        dispatcher: EvaluationDispatcher | None,
        record: RunRecord,
        notifications: Notifications,
        ranks: Ranks = SOLO,
    ) -> None:
        self._ranks = ranks
        self._stage, self._settings, self._path = stage, stage.settings, stage.path
        self._space, self._recorder = space, Recorder(stage, notifications.warn)
        self._history = StageHistory(stage, notifications.warn)
        self._seed, self._dispatcher, self._notifications = seed, dispatcher, notifications
        self._ledger, self._metrics, self._changed_packages = record.ledger, record.metrics, record.changed_packages
        self._uncollected: set[int] = set()  # submitted, but not returned by `results`
        self._collected: list[Trial] = []
        self._complete: list[Trial] = []  # those of them that are COMPLETE
        self._submitted = 0
        self._failures = 0  # in a row
        self._fresh: set[int] = set()  # recorded by this process, but not returned by `results`
        self._reports_itself = False
        self._other_metrics = False  # whether a resumed strategy measured something else than it recorded
        self._earlier_seconds = 0.0
        self._begun = time.monotonic()
        self.next_number = 0
        self.planned: int | None = None
        self.time_ends: Callable[[float], bool] = lambda share: True
        """Whether the budget in seconds ends the stage, given the multiple of it that has passed; at 1 and above."""

    # --- state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return the part of a checkpoint that is not the strategy's own state."""
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
                    **self._history.state(number),
                }
                for number, p in (self._dispatcher.outstanding if self._dispatcher else {}).items()
            ],
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """Check that the outstanding trials of a checkpoint are trials of this stage.

        Raises:
            SpaceError, TypeError: an architecture is not of the space.
            RunDirectoryError: the stage evaluates nothing.
        """
        for item in state.get("pending", ()):
            if self._dispatcher is None:
                raise RunDirectoryError("it has trials in evaluation, and the stage has no evaluator")
            self._space.validate(Architecture(item["architecture"]))

    def begin(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint: earlier trials become visible, outstanding ones are evaluated again."""
        self.next_number = state["next_number"]
        self._submitted = state.get("submitted", 0)
        self._failures = state.get("failures", 0)
        self._earlier_seconds = state.get("seconds", 0.0)
        self._uncollected = set(state.get("uncollected", ()))
        trials = self._ledger.trials
        self._collect([trials[n] for n in range(self.next_number) if n not in self._uncollected and n in trials])
        for item in state.get("pending", ()):
            if item["number"] not in trials:
                assert self._dispatcher is not None
                proposal = Proposal(Architecture(item["architecture"]), item["fidelity"], item["info"])
                earlier = self._earlier(item["number"], proposal, item.get("unseen", ()))
                self._record_evaluated(self._dispatcher.add([(item["number"], proposal)], earlier))

    @property
    def seconds(self) -> float:
        """Seconds that the stage has worked, over all processes."""
        return self._earlier_seconds + time.monotonic() - self._begun

    @property
    def outstanding(self) -> int:
        """Number of trials that were submitted and whose results the strategy has not received."""
        return len(self._uncollected)

    @property
    def submitted(self) -> int:
        """Number of trials of the stage that were submitted."""
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
        if budget.seconds is not None and self._ranks.agree(self._time_is_over(budget.seconds)):
            return 0
        for earlier in budget.extended_at:
            if earlier > self._submitted:
                return earlier - self._submitted
        return None if budget.trials is None else max(0, budget.trials - self._submitted)

    def _time_is_over(self, limit: float) -> bool:
        passed = self.seconds
        return passed >= limit and self.time_ends(passed / limit if limit else math.inf)

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """See `Services.submit`."""
        first = self.next_number
        recorded_trials, checked = self._ledger.trials, self._checked
        costs_only: list[Trial] = []
        to_evaluate: list[tuple[int, Proposal]] = []
        earlier: dict[int, Earlier] = {}
        for number, proposal in enumerate(proposals, start=first):
            proposal = checked(proposal, number)
            self.next_number += 1
            self._submitted += 1
            self._uncollected.add(number)
            recorded = recorded_trials.get(number)
            if recorded is not None:
                check_replay(self._ledger.path, recorded, proposal, self._settings.name, self._changed_packages)
            elif self._dispatcher is None:
                self._check_comparable()
                seed = trial_seed(self._seed, number)
                costs_only.append(self._recorder.trial(proposal, Outcome(number), seed, was_measured=False))
            else:
                to_evaluate.append((number, proposal))
                earlier |= self._earlier(number, proposal, self._uncollected)
        if costs_only:
            self._record(costs_only)
        if self._dispatcher is not None and to_evaluate:
            self._record_evaluated(self._dispatcher.add(to_evaluate, earlier))
        return list(range(first, self.next_number))

    def _earlier(self, number: int, proposal: Proposal, unseen: Iterable[int]) -> dict[int, Earlier]:
        first = self.next_number - self._submitted
        return self._history.earlier(number, proposal.fidelity, first, self._collected, unseen)

    def record(self, proposal: Proposal, metrics: Mapping[str, float]) -> Trial:
        """See `Services.record`."""
        number = self.next_number
        proposal = self._checked(proposal, number)
        if self._ranks.size > 1:
            metrics = self._ranks.agree({name: plain_number(value) for name, value in metrics.items()})
        outcome = Outcome(number, metrics)
        trial = self._recorder.trial(proposal, outcome, trial_seed(self._seed, number))
        recorded = self._ledger.trials.get(number)
        if recorded is not None:
            check_replay(self._ledger.path, recorded, proposal, self._settings.name, self._changed_packages)
            self._warn_of_other_metrics(recorded, trial)
        self.next_number += 1
        self._submitted += 1
        if recorded is None:
            self._record([trial])
        trial = self._ledger.trials[number]
        self._collect([trial])
        self._count_failures([trial])
        return trial

    def _checked(self, proposal: Proposal, number: int) -> Proposal:
        """Return a proposal with a valid architecture in canonical order, and a plain fidelity.

        Raises:
            SpaceError: the architecture is not of the space; names the strategy, the stage and the trial.
            PluginError: it is not a proposal, or its fidelity is not a finite number.
        """
        if not isinstance(proposal, Proposal) or not isinstance(proposal.architecture, Architecture):
            raise self._not_a_proposal(proposal)
        try:
            architecture, fidelity = self._space.validate(proposal.architecture), proposal.fidelity
        except SpaceError as error:
            raise SpaceError(
                f"{self._proposed(number)} an architecture that is not of the space: {error} "
                f"({proposal.architecture!r:.300})"
            ) from error
        if fidelity is not None and not (type(fidelity) in _NUMBERS and -math.inf < fidelity < math.inf):
            return Proposal(architecture, self._plain_fidelity(fidelity, number), proposal.info)
        if architecture is not proposal.architecture:  # a value or the order of the names is not canonical
            return Proposal(architecture, fidelity, proposal.info)
        return proposal

    def _warn_of_other_metrics(self, recorded: Trial, repeated: Trial) -> None:
        """Warn, once a process, if a strategy measured other values than before the run was resumed."""
        if self._other_metrics or recorded.metrics == repeated.metrics:
            return
        self._other_metrics = True
        self._notifications.warn(
            f"the strategy of the stage '{self._settings.name}' measured {dict(repeated.metrics)} for trial "
            f"{recorded.number}, and {dict(recorded.metrics)} is recorded, which counts: either its state_dict does "
            "not contain everything that it learns, or the device computes with other rounding than before"
        )

    def _plain_fidelity(self, fidelity: object, number: int) -> float:
        """Return a fidelity as a plain number.

        Raises:
            PluginError: it is not a finite number.
        """
        with contextlib.suppress(TypeError):
            plain = plain_number(fidelity)
            if math.isfinite(plain):
                return plain
        raise PluginError(
            f"{self._proposed(number)} the fidelity {fidelity!r}; a fidelity is a finite number, or None: the "
            "evaluator's default"
        )

    def _proposed(self, number: int) -> str:
        """Return the beginning of a message about a wrong proposal."""
        strategy, stage = self._settings.strategy["name"], self._settings.name
        return f"the strategy '{strategy}' of the stage '{stage}' proposed trial {number} with"

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """See `Services.results`."""
        recorded = self._ledger.trials
        for number in numbers:
            while number not in recorded:
                assert self._dispatcher is not None, f"trial {number} was never submitted"
                self._record_evaluated(self._dispatcher.advance(number))
        trials = [recorded[number] for number in numbers]
        first_time, uncollected = list[Trial](), self._uncollected
        for trial in trials:
            if trial.number in uncollected:
                uncollected.discard(trial.number)
                first_time.append(trial)
        self._collect(first_time)
        self._count_failures(first_time)
        self._send_progress()
        return trials

    def settle(self) -> None:
        """Wait for outstanding trials and record them, though the strategy does not receive them any more."""
        self.results(sorted(self._uncollected))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """See `Services.log`."""
        record = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.append({"stage": self._settings.name, "step": step, **record})
        self._notifications.send(NumbersLogged(deep_freeze(values), step))

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """See `Services.progress`."""
        # What is reported before the first trial may be its preparation only: then the number of trials is shown.
        self._reports_itself = bool(self._submitted)
        self._notifications.send(ProgressMade(done, total, unit))

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """See `Services.trials`. Trials that `results` has not returned are left out: the view is free of timing."""
        trials = self._complete if state is State.COMPLETE else self._collected
        if stage is None and state in (None, State.COMPLETE):
            return tuple(trials)
        return tuple(t for t in trials if (stage is None or t.stage == stage) and (state is None or t.state is state))

    def close(self) -> None:
        """Stop evaluating; unfinished evaluations are recorded as released."""
        if self._dispatcher is not None:
            self._dispatcher.close()

    # --- record ------------------------------------------------------------------------------------------------------

    def _record_evaluated(self, batches: Iterable[Sequence[Evaluated]]) -> None:
        make_trial = self._recorder.trial
        for batch in batches:
            trials: list[Trial] = []
            try:
                for proposal, request, outcome in batch:
                    trials.append(make_trial(proposal, outcome, request.seed))
                    self._history.finished(outcome)
            finally:  # if one cannot be recorded, those before it are
                if trials:
                    self._record(trials)

    def _record(self, trials: Sequence[Trial]) -> None:
        self._ledger.finished(trials)
        self._fresh.update([trial.number for trial in trials])
        notifications = self._notifications
        if notifications.has_subscriber(TrialFinished):
            for trial in trials:
                notifications.send(TrialFinished(notifications.run, frozen_trial(trial)))
        self._send_progress()

    def _send_progress(self) -> None:
        """Send the number of finished trials as progress, unless the strategy sends its own."""
        notifications = self._notifications
        if self._reports_itself or not self._submitted or not notifications.has_subscriber(ProgressMade):
            return
        total, planned = self._settings.budget.trials, self.planned
        if planned is not None and (total is None or planned < total):
            total = planned
        notifications.send(ProgressMade(self._submitted - len(self._dispatcher or ()), total, "trials"))

    def _collect(self, trials: Sequence[Trial]) -> None:
        # By number, in whatever order a strategy asks for results: that is the order after a resume.
        for collected, new in (
            (self._collected, trials),
            (self._complete, [trial for trial in trials if trial.state is State.COMPLETE]),
        ):
            ordered = not collected or not new or collected[-1].number < new[0].number
            collected += new
            if not ordered or any(one.number > other.number for one, other in pairwise(new)):
                collected.sort(key=lambda trial: trial.number)  # as fast as insertion: two sorted parts

    def _count_failures(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state is not State.FAILED:
                self._failures = 0
                continue
            self._failures += 1
            # Failures that an earlier process recorded are counted, but only a new one ends the run: otherwise a run
            # that failures ended could never be resumed.
            if trial.number in self._fresh and self._failures >= self._settings.max_failures:
                pattern = failure_pattern([each for each in self._collected if each.stage == self._settings.name])
                raise EvaluationError(
                    f"{self._failures} trials in a row failed in the stage '{self._settings.name}', the last one "
                    f"(trial {trial.number}) with: {trial.error}; {pattern}{'; ' if pattern else ''}mend the cause and "
                    "resume: the search goes on with its next candidates. A new run may allow more "
                    f"({join(self._path, 'max_failures')})"
                )
        self._fresh.difference_update([trial.number for trial in trials])

    def _not_a_proposal(self, value: object) -> PluginError:
        architecture = value.architecture if isinstance(value, Proposal) else None
        way_out = "a candidate is Proposal(architecture)"
        if isinstance(value, Proposal):
            way_out += f", and {architecture!r} is a {type(architecture).__name__}: write Proposal(Architecture(...))"
        return PluginError(
            f"the strategy of the stage '{self._settings.name}' proposed {value!r}, a {type(value).__name__}; {way_out}"
        )

    def _check_comparable(self) -> None:
        """Check that trials without an evaluator are compared by costs, unless the stage has only one."""
        problem = self._stage.problem
        missing = [name for name in problem.objectives if name not in problem.cost_models]
        if missing and self._submitted > 1:
            raise ConfigurationError(
                f"candidates of this stage are compared by '{missing[0]}', which is not a cost, and the stage has no "
                "evaluator that measures it: give the stage an evaluator, or an objective that is a cost",
                path=join(self._path, "evaluator"),
            )
