"""`SimulatedServices`: the services of a driver without a run, for tests of strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import final

from automl_nas.evaluation.evaluator import State
from automl_nas.strategy.base import Services
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream

Evaluate = Callable[[int, Proposal], Trial]
"""``evaluate(number, proposal) -> trial``; it must be a pure function."""


def finished(
    problem: Problem,
    number: int,
    proposal: Proposal,
    metrics: Mapping[str, float],
    state: State = State.COMPLETE,
    error: str = "",
) -> Trial:
    """Return the trial of a proposal as a run would record it, with costs and violations."""
    architecture = proposal.architecture
    return Trial(
        number=number,
        architecture=architecture,
        metrics=metrics,
        costs=problem.costs(architecture),
        violations=problem.violations(architecture, metrics if state is State.COMPLETE else None),
        state=state,
        fidelity=proposal.fidelity,
        error=error,
        info=proposal.info,
    )


@final
class SimulatedServices(Services):
    """Evaluates proposals in this process; trials finish in order or in a random order.

    Args:
        evaluate: returns the trial of a proposal.
        batch: see `Services.batch`.
        ahead: see `Services.ahead`; None: as ``batch``.
        budget: the maximum number of trials; None: no limit.
        shuffle: None: trials finish in the order of submission; a number: in a random order with this seed.
        problem: gives costs and violations to trials that a strategy records itself; None: they have none.

    Attributes:
        first: the number of the first trial (default: 0); set it before a strategy takes a step. A run with earlier
            stages has other numbers.
        budget: as the argument.
        change_recorded: changes each metric that a strategy records, as if the run's record had another value of an
            earlier measurement; None: trials have the metrics of the strategy.
        submitted: all proposals so far, in order.
        finished: the numbers of the finished trials, in the order in which they finished.
        originals: number -> copy of the trial, made before a strategy received it.
        logged: the logged values, as ``(step, values)``.
        progressed: the reports of progress, as ``(done, total, unit)``.
        recorded: what strategies recorded themselves, as ``(number, metrics)``.
    """

    def __init__(
        self,
        evaluate: Evaluate,
        *,
        batch: int = 1,
        ahead: int | None = None,
        budget: int | None = None,
        shuffle: int | None = None,
        problem: Problem | None = None,
    ) -> None:
        self._problem = problem
        self._evaluate, self._batch, self._ahead, self.budget = evaluate, batch, ahead or batch, budget
        self._rng = None if shuffle is None else stream(shuffle, "completion")
        self.first = 0
        self.change_recorded: Callable[[float], float] | None = None
        self._running: list[int] = []
        self._trials: dict[int, Trial] = {}
        self.submitted: list[Proposal] = []
        self.finished: list[int] = []
        self.originals: dict[int, Trial] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.progressed: list[tuple[float, float | None, str]] = []
        self.recorded: list[tuple[int, dict[str, float]]] = []

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Number the proposals; `results` evaluates them."""
        start = self.first + len(self.submitted)
        numbers = list(range(start, start + len(proposals)))
        self.submitted += proposals
        self._running += numbers
        return numbers

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Evaluate proposals until all of these trials are finished; return the trials."""
        while not all(number in self._trials for number in numbers):
            index = 0 if self._rng is None else self._rng.randrange(len(self._running))
            number = self._running.pop(index)
            self._keep(self._evaluate(number, self.submitted[number - self.first]), number)
            self.finished.append(number)
        return [self._trials[number] for number in numbers]

    def record(self, proposal: Proposal, metrics: Mapping[str, float]) -> Trial:
        """Return a complete trial with these metrics; with costs and violations if the services know the problem."""
        number = self.first + len(self.submitted)
        self.submitted.append(proposal)
        self.recorded.append((number, dict(metrics)))
        if self.change_recorded is not None:
            metrics = {name: self.change_recorded(value) for name, value in metrics.items()}
        if self._problem is None:
            trial = Trial(number, proposal.architecture, metrics, fidelity=proposal.fidelity, info=proposal.info)
        else:
            trial = finished(self._problem, number, proposal, metrics)
        self._keep(trial, number)
        self.finished.append(number)
        return trial

    def _keep(self, trial: Trial, number: int) -> None:
        self._trials[number] = trial
        self.originals[number] = replace(trial, metrics=dict(trial.metrics), info=dict(trial.info))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Append the values to `logged`."""
        self.logged.append((step, dict(values)))

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Append the report to `progressed`."""
        self.progressed.append((done, total, unit))

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return the finished trials, in the order of their numbers."""
        trials = (self._trials[number] for number in sorted(self._trials))
        return [t for t in trials if stage in (None, t.stage) and state in (None, t.state)]

    @property
    def batch(self) -> int:
        """The number of trials of one ``tell``."""
        return self._batch

    @property
    def ahead(self) -> int:
        """The number of trials with which a stage begins."""
        return self._ahead

    @property
    def remaining(self) -> int | None:
        """The number of trials that may still be submitted; None: no limit."""
        return None if self.budget is None else self.budget - len(self.submitted)
