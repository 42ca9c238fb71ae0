"""Random search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas_evolution.deduplicating_search import DeduplicatingSearch, proposed


@final
class RandomSearch(DeduplicatingSearch):
    """Propose architectures uniformly at random among those that meet the constraints on costs.

    Args:
        space: what is searched.
        problem: objectives and constraints.
        seed: of the run.
        duplicates: whether a network may be proposed twice.
        attempts: uniform draws for one candidate before other ways are tried; see `FeasibleSampler`.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, seed: int, duplicates: bool = False, attempts: int = 1000
    ) -> None:
        super().__init__(space, problem, seed=seed, duplicates=duplicates, attempts=attempts)

    def _propose(self) -> Proposal | None:
        drawn = self._draw(self._of_this_ask("random"))
        return None if drawn is None else proposed(drawn, {})

    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        """Learn nothing: every draw is independent of all results."""

    def _own_state(self) -> dict[str, Any]:
        return {}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the counter alone."""
