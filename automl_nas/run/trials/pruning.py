"""The pruner of a stage: what it compares a trial with, and how it stops evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from automl_nas.errors import PluginError, Pruned
from automl_nas.evaluation.evaluator import Earlier, EarlierTrial, Evaluator, Outcome, Request, State
from automl_nas.evaluation.pruner import Judge, Pruner
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.strategy.trial import Trial

NOTES = "pruner"
"""The key in the ``info`` of a trial under which the notes of its judge are recorded."""

INTERMEDIATE = "intermediate"
"""The key in the ``info`` of a trial under which its intermediate values are recorded."""


@final
class StageHistory:
    """What the trials of a stage are compared with, if the stage has a pruner.

    Args:
        stage: the stage.
        warn: receives a warning if an evaluation reports nothing, so that the pruner has no effect.
    """

    def __init__(self, stage: StagePlan, warn: Callable[[str], None]) -> None:
        self._active, self._stage = stage.settings.pruner is not None, stage.settings.name
        self._objective, self._warn, self._warned = next(iter(stage.problem.objectives)), warn, False
        self._trials: dict[int, EarlierTrial] = {}
        self._unseen: dict[int, list[int]] = {}

    def earlier(
        self, number: int, fidelity: float | None, first: int, received: Sequence[Trial], unseen: Iterable[int]
    ) -> dict[int, Earlier]:
        """Return number -> what the trial is compared with; empty without a pruner.

        Args:
            number: of the trial in the run.
            fidelity: of the trial.
            first: the number of the stage's first trial.
            received: trials that the strategy has received, now or at a later time.
            unseen: the numbers of trials proposed before this one, or with it, that it had not received by then.
        """
        if not self._active:
            return {}
        waiting = self._unseen[number] = sorted(each for each in unseen if each < number)
        trials = tuple(
            self._trials.get(trial.number) or self._make(trial, first)
            for trial in received
            if trial.stage == self._stage
            and trial.number < number
            and trial.fidelity == fidelity
            and trial.number not in waiting
        )
        return {number: Earlier(number - first, trials)}

    def state(self, number: int) -> dict[str, Any]:
        """Return what a checkpoint needs so that an outstanding trial is compared with the same trials again."""
        return {"unseen": self._unseen[number]} if self._active else {}

    def finished(self, outcome: Outcome) -> None:
        """Forget an outstanding trial; warn, once, if its evaluation reported nothing."""
        self._unseen.pop(outcome.number, None)
        if not self._active or self._warned or outcome.state is not State.COMPLETE or INTERMEDIATE in outcome.info:
            return
        self._warned = True
        self._warn(
            f"the evaluator of the stage '{self._stage}' reported no intermediate value of trial {outcome.number}, so "
            "its pruner stops nothing: use an evaluator that reports, such as 'train', or leave the pruner out"
        )

    def _make(self, trial: Trial, first: int) -> EarlierTrial:
        reports: Any = trial.info.get(INTERMEDIATE, ())
        notes: Any = trial.info.get(NOTES, {})
        earlier = EarlierTrial(
            trial.number - first,
            trial.state,
            trial.metrics.get(self._objective) if trial.state is State.COMPLETE else None,
            tuple((int(step), math.nan if value is None else value) for step, value in reports),
            notes,
        )
        self._trials[trial.number] = earlier
        return earlier


def serialize_earlier(earlier: Earlier) -> dict[str, Any]:
    """Return JSON data from which `read_earlier` makes an equal object; NaN is null."""
    return {
        "number": earlier.number,
        "trials": [
            [
                trial.number,
                trial.state.value,
                trial.value,
                [[step, value if math.isfinite(value) else None] for step, value in trial.reports],
                dict(trial.notes),
            ]
            for trial in earlier.trials
        ],
    }


def read_earlier(data: Mapping[str, Any]) -> Earlier:
    """Invert `serialize_earlier`."""
    return Earlier(
        data["number"],
        tuple(
            EarlierTrial(
                number,
                State(state),
                value,
                tuple((step, math.nan if reported is None else reported) for step, reported in reports),
                notes,
            )
            for number, state, value, reports, notes in data["trials"]
        ),
    )


@final
class PrunedEvaluator(Evaluator):
    """An evaluator whose requests are stopped by a pruner.

    Args:
        evaluator: evaluates.
        pruner: judges the reported values.
        objective: the name of the reported metric, for evaluators whose pruned outcomes have no metrics.
    """

    def __init__(self, evaluator: Evaluator, pruner: Pruner, objective: str) -> None:
        self._evaluator, self._pruner, self._objective = evaluator, pruner, objective
        self.taken_ahead = evaluator.taken_ahead

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes of the evaluator; those of pruned requests have the last reported value."""
        open_requests: dict[int, _JudgedReport] = {}

        def judged() -> Iterator[Request]:
            for request in requests:
                if request.earlier is None:
                    yield request
                    continue
                report = open_requests[request.number] = _JudgedReport(request, self._judge(request.earlier))
                yield replace(request, report=report)

        try:
            for outcome in self._evaluator.evaluate(judged()):
                report = open_requests.pop(outcome.number, None)
                yield outcome if report is None else self._noted(outcome, report)
        except Pruned:
            if len(open_requests) != 1:
                raise  # they share work, and each is repeated alone
            ((number, report),) = open_requests.items()
            yield self._noted(Outcome(number, state=State.PRUNED), report)

    def _judge(self, earlier: Earlier) -> Judge:
        judge: object = self._pruner.judge(earlier)
        if not isinstance(judge, Judge):
            raise PluginError(
                f"{type(self._pruner).__name__}.judge returned {judge!r}, a {type(judge).__name__}; it must return a "
                "Judge"
            )
        return judge

    def _noted(self, outcome: Outcome, report: _JudgedReport) -> Outcome:
        notes = dict(report.judge.notes)
        metrics = outcome.metrics
        if outcome.state is State.PRUNED and not metrics and report.last is not None:
            metrics = {self._objective: report.last}
        return replace(outcome, metrics=metrics, info={**outcome.info, NOTES: notes} if notes else outcome.info)


class _JudgedReport:
    """Passes reported values on, and raises `Pruned` if the judge prunes the trial."""

    def __init__(self, request: Request, judge: Judge) -> None:
        self._report, self.judge = request.report, judge
        self.last: float | None = None

    def __call__(self, step: int, value: float) -> None:
        self._report(step, value)
        self.last = float(value)
        if self.judge.prunes(int(step), self.last):
            raise Pruned
