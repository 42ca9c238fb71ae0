"""Random search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas_evolution.deduplicating_search import DeduplicatingSearch, make_proposal


@final
class RandomSearch(DeduplicatingSearch):
    """Propose architectures uniformly at random among those that meet the constraints on costs.

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        duplicates: whether a network may be proposed twice.
        attempts: uniform samples for one candidate before `FeasibleSampler` uses other methods.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, seed: int, duplicates: bool = False, attempts: int = 1000
    ) -> None:
        super().__init__(space, problem, seed=seed, duplicates=duplicates, attempts=attempts)

    def _propose(self) -> Proposal | None:
        architecture = self._sample(self._ask_stream("random"))
        return None if architecture is None else make_proposal(architecture, {})

    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        """Ignore the trial: samples do not depend on results."""

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Load nothing: the counter of the base class is the whole state."""
