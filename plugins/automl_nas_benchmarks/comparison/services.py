"""The services of a search in memory: every proposal is evaluated on a benchmark at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from automl_nas.errors import EvaluationError, SpaceError
from automl_nas.evaluation import State
from automl_nas.strategy import Proposal, Services, Trial
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem


@final
class InMemoryServices(Services):
    """Evaluates proposals on a benchmark and passes each evaluation to an observer.

    Args:
        benchmark_problem: the benchmark with its problem.
        observe: called with each trial that counts as an evaluation, in the order of their numbers.
        budget: number of evaluations. Proposals beyond the budget are evaluated, but do not count.
        batch: see `Services.batch`.
        deduplicate: whether a network with the canonical form of an earlier one is answered from memory and does not
            count.

    Attributes:
        evaluated: evaluations so far, at most the budget.
        repeated: consecutive proposals that were answered from memory.
        strategy_seconds: wall-clock time that the strategy worked, until its last submission.
    """

    def __init__(
        self,
        benchmark_problem: BenchmarkProblem,
        observe: Callable[[Trial], object],
        *,
        budget: int,
        batch: int,
        deduplicate: bool,
    ) -> None:
        self._benchmark_problem, self._observe, self._budget, self._batch = benchmark_problem, observe, budget, batch
        self._trials_by_function: dict[str, Trial] | None = {} if deduplicate else None
        self._trials: list[Trial] = []
        self.evaluated = 0
        self.repeated = 0
        self.strategy_seconds = 0.0
        self._answered = time.perf_counter()

    def submit(self, proposals: Sequence[Proposal]) -> list[int]:
        """Evaluate proposals and return their numbers.

        Raises:
            EvaluationError: a proposal has a fidelity, or its architecture is not of the space.
        """
        self.strategy_seconds += time.perf_counter() - self._answered
        first = len(self._trials)
        for proposal in proposals:
            self._trials.append(self._trial(proposal))
        self._answered = time.perf_counter()
        return list(range(first, len(self._trials)))

    def results(self, numbers: Sequence[int]) -> list[Trial]:
        """Return the trials of these numbers; all submitted trials have finished."""
        return [self._trials[number] for number in numbers]

    def record(self, proposal: Proposal, metrics: Mapping[str, float]) -> Trial:
        """Refuse metrics that a strategy measured itself.

        Raises:
            EvaluationError: always; a comparison compares what the benchmark measured.
        """
        raise EvaluationError(
            "the strategy records metrics that it measured itself (Services.record); a comparison on a benchmark takes "
            "strategies that propose candidates (Services.submit)"
        )

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Do nothing: the numbers are not recorded."""

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Do nothing: the progress of a single search is not shown."""

    def trials(self, stage: str | None = None, state: State | None = State.COMPLETE) -> Sequence[Trial]:
        """Return the evaluated trials in the order of their numbers."""
        own = (trial for number, trial in enumerate(self._trials) if trial.number == number)
        return [t for t in own if stage in (None, t.stage) and state in (None, t.state)]

    @property
    def batch(self) -> int:
        """The number of trials that a strategy receives at once."""
        return self._batch

    @property
    def ahead(self) -> int:
        """Equal to `batch`: every trial finishes at once."""
        return self._batch

    @property
    def remaining(self) -> int:
        """The evaluations that are left of the budget."""
        return self._budget - self.evaluated

    def _trial(self, proposal: Proposal) -> Trial:
        if proposal.fidelity is not None:
            raise EvaluationError(
                f"the strategy proposed the fidelity {proposal.fidelity:g}; a comparison has one fidelity; configure "
                "the strategy to use the default fidelity"
            )
        number = len(self._trials)
        trials = self._trials_by_function
        if trials is None:
            return self._evaluate(number, proposal)
        function = self._function(proposal)
        if function in trials:
            self.repeated += 1
            return trials[function]
        self.repeated = 0
        trials[function] = trial = self._evaluate(number, proposal)
        return trial

    def _function(self, proposal: Proposal) -> str:
        try:
            return self._benchmark_problem.space.canonical(proposal.architecture).key
        except SpaceError as error:
            raise EvaluationError(f"the strategy proposed {dict(proposal.architecture)}: {error}") from error

    def _evaluate(self, number: int, proposal: Proposal) -> Trial:
        try:
            trial = self._benchmark_problem.evaluate(number, proposal)
        except SpaceError as error:
            raise EvaluationError(f"the strategy proposed {dict(proposal.architecture)}: {error}") from error
        if self.evaluated < self._budget:
            self.evaluated += 1
            self._observe(trial)
        return trial
