"""Simulated annealing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace, operators
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.streams import stream


@final
class Annealing(AskTellStrategy):
    """Walk from neighbour to neighbour; accept worse candidates less and less often (Kirkpatrick et al. 1983).

    A candidate differs from the current architecture in one decision. After its evaluation, it becomes the current
    architecture if it is not worse, and otherwise with probability ``exp(-loss / T)`` (Metropolis et al. 1953). T is
    multiplied by ``cooling`` after each such comparison. Only the first objective is used. Every candidate meets the
    constraints on costs, and every accepted candidate also meets the other constraints. No architecture is proposed
    twice.

    Args:
        space: the search space.
        problem: the objectives and constraints.
        temperature: T at the start, in the unit of the first objective. A loss of this size is accepted with a
            probability of 0.37.
        cooling: the factor by which T is multiplied, more than 0 and at most 1.
        attempts: the maximum number of random changes, and then of random architectures, that are drawn for a new
            candidate. If none of them is new and feasible, the search ends.
        seed: the seed of the run.

    Raises:
        ConfigurationError: a setting is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        temperature: float = 0.05,
        cooling: float = 0.98,
        attempts: int = 1000,
        seed: int,
    ) -> None:
        if temperature <= 0:
            raise ConfigurationError(f"must be positive, got {temperature}", path="temperature")
        if not 0 < cooling <= 1:
            raise ConfigurationError(f"must be more than 0 and at most 1, got {cooling}", path="cooling")
        if attempts < 1:
            raise ConfigurationError(f"must be at least 1, got {attempts}", path="attempts")
        self._space, self._problem, self._seed = space, problem, seed
        self._temperature, self._cooling, self._attempts = temperature, cooling, attempts
        self._current: Architecture | None = None
        self._score = -math.inf
        self._seen: set[Architecture] = set()
        self._asked = 0
        self._compared = 0

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n new architectures; fewer if no more of them are drawn.

        Raises:
            InfeasibleError: no drawn architecture meets the constraints on costs.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (candidate := self._draw()) is not None:
            self._seen.add(self._space.canonical(candidate))
            self._asked += 1
            proposals.append(Proposal(candidate))
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Accept or reject the trials one by one."""
        for trial in trials:
            self._seen.add(self._space.canonical(trial.architecture))
            score = self._problem.scores(trial)[0]
            if trial.state is State.COMPLETE and trial.feasible and score > -math.inf and self._accepts(score):
                self._current, self._score = trial.architecture, score

    def search_state(self) -> dict[str, Any]:
        """Return the current architecture, its score, all proposed and received architectures, and the counters."""
        return {
            "present": None if self._current is None else self._current.to_dict(),
            "score": self._score,
            "seen": sorted(architecture.key for architecture in self._seen),
            "asked": self._asked,
            "judged": self._compared,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._current = None if state["present"] is None else Architecture(state["present"])
        self._score = state["score"]
        self._seen = {Architecture.from_json(key) for key in state["seen"]}
        self._asked, self._compared = state["asked"], state["judged"]

    def _accepts(self, score: float) -> bool:
        temperature = self._temperature * self._cooling**self._compared
        # Each comparison has its own stream, so the state of a generator does not have to be saved.
        draw = stream(self._seed, "accept", self._compared).random()
        self._compared += 1
        # After many comparisons the temperature underflows to 0; then a worse score is never accepted.
        return score >= self._score or (temperature > 0 and draw < math.exp((score - self._score) / temperature))

    def _draw(self) -> Architecture | None:
        rng = stream(self._seed, "propose", self._asked)
        decisions = self._space.decisions
        changeable = self._current is not None and self._space.size > 1
        for _ in range(self._attempts if changeable else 0):
            assert self._current is not None
            candidate = operators.mutate_one(self._current, decisions, rng)
            if self._usable(candidate):
                return candidate
        for _ in range(self._attempts):
            candidate = self._space.sample(rng)
            if self._usable(candidate):
                return candidate
        if not self._seen:
            limits = ", ".join(f"{item.metric} {item.text}" for item in self._problem.constraints)
            raise InfeasibleError(f"none of {self._attempts} random architectures meets {limits}")
        return None

    def _usable(self, candidate: Architecture) -> bool:
        return self._space.canonical(candidate) not in self._seen and self._problem.feasible(candidate)
