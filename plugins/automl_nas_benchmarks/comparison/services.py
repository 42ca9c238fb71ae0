"""The services of a search that runs in memory: proposals are answered from a benchmark at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from automl_nas.errors import EvaluationError, SpaceError
from automl_nas.evaluation import State
from automl_nas.strategy import Proposal, Services, Trial
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem


@final
class InMemory(Services):
    """Answers proposals from a benchmark and hands each evaluation to an observer.

    Args:
        ground: the benchmark with its problem.
        observe: told each trial that counts as an evaluation, in the order of their numbers.
        budget: evaluations in all. A strategy that submits more than is left gets its answers, but they do not count.
        batch: see `Services.batch`.
        deduplicate: whether a network known by its canonical form is answered from memory and does not count.

    Attributes:
        evaluated: evaluations so far, at most the budget.
        repeated: proposals in a row that were answered from memory.
        strategy_seconds: wall clock between answers, up to the last time something was submitted.
    """

    def __init__(
        self,
        ground: BenchmarkProblem,
        observe: Callable[[Trial], object],
        *,
        budget: int,
        batch: int,
        deduplicate: bool,
    ) -> None:
        self._ground, self._observe, self._budget, self._batch = ground, observe, budget, batch
        self._known: dict[str, Trial] | None = {} if deduplicate else None
        self._trials: list[Trial] = []
        self.evaluated = 0
        self.repeated = 0
        self.strategy_seconds = 0.0
        self._answered = time.perf_counter()

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Evaluate proposals and return their numbers.

        Raises:
            EvaluationError: a proposal asks for a fidelity, or its architecture is not of the space.
        """
        self.strategy_seconds += time.perf_counter() - self._answered
        first = len(self._trials)
        for proposal in proposals:
            self._trials.append(self._answer(proposal))
        self._answered = time.perf_counter()
        return list(range(first, len(self._trials)))

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Return finished trials; nothing is ever outstanding."""
        return [self._trials[number] for number in numbers]

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Keep nothing."""

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Show nothing."""

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return what was evaluated, in the order of numbers."""
        own = (trial for number, trial in enumerate(self._trials) if trial.number == number)
        return [t for t in own if stage in (None, t.stage) and state in (None, t.state)]

    @property
    def batch(self) -> int:
        """As given."""
        return self._batch

    @property
    def ahead(self) -> int:
        """As many as are told at once."""
        return self._batch

    @property
    def remaining(self) -> int:
        """What is left of the budget."""
        return self._budget - self.evaluated

    def _answer(self, proposal: Proposal) -> Trial:
        if proposal.fidelity is not None:
            raise EvaluationError(
                f"it asked for the fidelity {proposal.fidelity:g}, and a comparison counts evaluations of one kind; "
                "let the strategy use the default fidelity"
            )
        number = len(self._trials)
        known = self._known
        if known is None:
            return self._evaluate(number, proposal)
        key = self._key(proposal)
        if key in known:
            self.repeated += 1
            return known[key]
        self.repeated = 0
        known[key] = trial = self._evaluate(number, proposal)
        return trial

    def _key(self, proposal: Proposal) -> str:
        try:
            return self._ground.space.canonical(proposal.architecture).key
        except SpaceError as error:
            raise EvaluationError(f"it proposed {dict(proposal.architecture)}: {error}") from error

    def _evaluate(self, number: int, proposal: Proposal) -> Trial:
        try:
            trial = self._ground.evaluate(number, proposal)
        except SpaceError as error:
            raise EvaluationError(f"it proposed {dict(proposal.architecture)}: {error}") from error
        if self.evaluated < self._budget:
            self.evaluated += 1
            self._observe(trial)
        return trial
