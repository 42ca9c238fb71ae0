"""Where new candidates come from, and how results of one fidelity are ordered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from automl_nas.errors import InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Preparation, Problem, Proposal, Trial
from automl_nas.streams import stream


@final
@dataclass(frozen=True)
class Result:
    """What is known of a candidate at one fidelity.

    Attributes:
        number: of the trial.
        architecture: the candidate.
        scores: its objectives, larger is better; empty if the trial failed, was pruned or lacks an objective.
        violation: `Trial.total_violation`.
    """

    number: int
    architecture: Architecture
    scores: tuple[float, ...]
    violation: float

    @classmethod
    def of(cls, problem: Problem, trial: Trial) -> Result:
        """Return the result of a trial in any state."""
        scores = problem.scores(trial) if trial.state is State.COMPLETE else ()
        return cls(trial.number, trial.architecture, () if -math.inf in scores else scores, trial.total_violation)

    def state(self) -> list[Any]:
        """Return the result as plain data, with None instead of infinity."""
        violation = self.violation if math.isfinite(self.violation) else None
        return [self.number, self.architecture.to_dict(), list(self.scores), violation]

    @classmethod
    def load(cls, state: Sequence[Any]) -> Result:
        """Invert `state`."""
        number, architecture, scores, violation = state
        return cls(number, Architecture(architecture), tuple(scores), math.inf if violation is None else violation)


def best_first(results: Sequence[Result]) -> list[Result]:
    """Return the results that may be promoted, best first.

    Feasible ones come first: with one objective by its value; with several by the number of results that dominate them
    (Fonseca and Fleming 1993), then by the first objective. Infeasible ones follow by their violation. Ties are in the
    order of the trials. Failed and pruned ones are left out.
    """
    usable = [result for result in results if result.scores]
    feasible = [result for result in usable if result.violation <= 0]

    def place(result: Result) -> tuple[float, ...]:
        if result.violation > 0:
            return (1, result.violation, 0, result.number)
        dominators = 0
        if len(result.scores) > 1:
            dominators = sum(_dominates(other.scores, result.scores) for other in feasible)
        return (0, dominators, -result.scores[0], result.number)

    return sorted(usable, key=place)


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


@final
class Candidates:
    """New candidates: those of an inner strategy, or uniformly random ones that meet the constraints on costs.

    Args:
        space: the search space.
        problem: its constraints.
        strategy: the inner strategy; None: random candidates, no network twice.
        seed: of the run.
        attempts: see `FeasibleSampler`.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, strategy: AskTellStrategy | None, seed: int, attempts: int
    ) -> None:
        self._space, self._inner, self._seed = space, strategy, seed
        self._sampler = FeasibleSampler(space, problem, attempts)
        self._drawn = 0
        self._taken: dict[Architecture, None] = {}

    def prepare(self) -> Preparation | None:
        """Prepare the inner strategy; see `AskTellStrategy.prepare`."""
        return None if self._inner is None else self._inner.prepare()

    def next(self) -> Proposal | None:
        """Return a new candidate; None: no candidate is left, or the inner strategy waits for trials.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
        """
        if self._inner is not None:
            return next(iter(self._inner.ask(1)), None)
        try:
            architecture = self._sampler.draw(stream(self._seed, "candidates", self._drawn), self._taken)
        except InfeasibleError:
            if self._taken:
                return None
            raise
        if architecture is None:
            return None
        self._drawn += 1
        self._taken[self._space.canonical(architecture)] = None
        return Proposal(architecture)

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials of all fidelities on to the inner strategy; random candidates leave their networks out.

        Raises:
            SpaceError: a trial has an architecture of another space.
        """
        if self._inner is not None:
            self._inner.tell(trials)
            return
        for trial in trials:
            self._taken[self._space.canonical(self._space.validate(trial.architecture))] = None

    def state(self) -> dict[str, Any]:
        """Return the state as plain data."""
        return {
            "drawn": self._drawn,
            "taken": [item.key for item in self._taken],
            "inner": None if self._inner is None else self._inner.search_state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Load what `state` returned."""
        self._drawn = state["drawn"]
        self._taken = dict.fromkeys(Architecture.from_json(text) for text in state["taken"])
        if self._inner is not None:
            self._inner.load_search_state(state["inner"])
