"""`SimulatedServices`: a driver's services without a run, for tests of strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

from automl_nas.evaluation.evaluator import State
from automl_nas.strategy.base import Services
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream

Judge = Callable[[int, Proposal], Trial]
"""``judge(number, proposal) -> trial``: the evaluation; it must be a pure function."""


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
    """Evaluates in this process, with a fixed window, in order or in a random one.

    Args:
        judge: the evaluation.
        batch: see `Services.batch`.
        ahead: see `Services.ahead`; None: as ``batch``.
        budget: how many trials may be submitted; None: no limit.
        shuffle: None: trials finish in the order they were submitted; a number: in a random order, drawn from it.

    Attributes:
        submitted: all proposals so far, in order.
        finished: the numbers of the finished trials, in the order they finished.
        logged: what was logged, as ``(step, values)``.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        batch: int = 1,
        ahead: int | None = None,
        budget: int | None = None,
        shuffle: int | None = None,
    ) -> None:
        self._judge, self._batch, self._ahead, self._budget = judge, batch, ahead or batch, budget
        self._rng = None if shuffle is None else stream(shuffle, "completion")
        self._running: list[int] = []
        self._trials: dict[int, Trial] = {}
        self.submitted: list[Proposal] = []
        self.finished: list[int] = []
        self.logged: list[tuple[int, dict[str, float]]] = []

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Number the proposals; they run when results are waited for."""
        numbers = list(range(len(self.submitted), len(self.submitted) + len(proposals)))
        self.submitted += proposals
        self._running += numbers
        return numbers

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Let trials finish until all those asked for have."""
        while not all(number in self._trials for number in numbers):
            place = 0 if self._rng is None else self._rng.randrange(len(self._running))
            number = self._running.pop(place)
            self._trials[number] = self._judge(number, self.submitted[number])
            self.finished.append(number)
        return [self._trials[number] for number in numbers]

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Keep the values in `logged`."""
        self.logged.append((step, dict(values)))

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Show nothing."""

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return the finished trials, in the order of their numbers."""
        found = (self._trials[number] for number in sorted(self._trials))
        return [t for t in found if stage in (None, t.stage) and state in (None, t.state)]

    @property
    def batch(self) -> int:
        """As given."""
        return self._batch

    @property
    def ahead(self) -> int:
        """As given."""
        return self._ahead

    @property
    def remaining(self) -> int | None:
        """What is left of the budget."""
        return None if self._budget is None else self._budget - len(self.submitted)
