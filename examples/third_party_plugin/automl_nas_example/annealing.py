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
    """Walk among neighbours; worse ones are accepted too, ever more rarely (Kirkpatrick, Gelatt and Vecchi 1983).

    A candidate differs from the present architecture in one decision. When it has been evaluated it takes its place,
    for certain if it is not worse, else with probability ``exp(-loss / T)`` (Metropolis et al. 1953), where T shrinks
    by the factor ``cooling`` with each such judgement. Only the first objective counts. Constraints on costs are met by
    every candidate, other ones by every accepted candidate; no architecture is proposed twice.

    Args:
        space: what is searched.
        problem: objectives and constraints.
        temperature: T at the start, in the unit of the first objective: a loss of so much is accepted in 37 of 100
            cases.
        cooling: T is multiplied by it, more than 0 and at most 1.
        attempts: so many random changes, then as many random architectures, are drawn to find a new candidate; when
            that fails the search ends.
        seed: of the run.

    Raises:
        ConfigurationError: a setting is out of its range.
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
            raise ConfigurationError(f"must be positive, not {temperature}", path="temperature")
        if not 0 < cooling <= 1:
            raise ConfigurationError(f"must be more than 0 and at most 1, not {cooling}", path="cooling")
        if attempts < 1:
            raise ConfigurationError(f"must be at least 1, not {attempts}", path="attempts")
        self._space, self._problem, self._seed = space, problem, seed
        self._temperature, self._cooling, self._attempts = temperature, cooling, attempts
        self._present: Architecture | None = None
        self._score = -math.inf
        self._seen: set[Architecture] = set()
        self._asked = 0
        self._judged = 0

    def ask(self, n: int) -> list[Proposal]:
        """Propose up to n architectures that were not proposed or told before; fewer if no more of them are drawn.

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
        """Judge trials one by one."""
        for trial in trials:
            self._seen.add(self._space.canonical(trial.architecture))
            score = self._problem.scores(trial)[0]
            if trial.state is State.COMPLETE and trial.feasible and score > -math.inf and self._accepts(score):
                self._present, self._score = trial.architecture, score

    def search_state(self) -> dict[str, Any]:
        """Return where the walk is and what it has seen."""
        return {
            "present": None if self._present is None else self._present.to_dict(),
            "score": self._score,
            "seen": sorted(architecture.key for architecture in self._seen),
            "asked": self._asked,
            "judged": self._judged,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._present = None if state["present"] is None else Architecture(state["present"])
        self._score = state["score"]
        self._seen = {Architecture.from_json(key) for key in state["seen"]}
        self._asked, self._judged = state["asked"], state["judged"]

    def _accepts(self, score: float) -> bool:
        temperature = self._temperature * self._cooling**self._judged
        # A stream is drawn by number, so the state of a generator does not have to be saved.
        draw = stream(self._seed, "accept", self._judged).random()
        self._judged += 1
        # At the end of a long walk the temperature underflows to 0: then a worse score is never accepted.
        return score >= self._score or (temperature > 0 and draw < math.exp((score - self._score) / temperature))

    def _draw(self) -> Architecture | None:
        rng = stream(self._seed, "propose", self._asked)
        decisions = self._space.decisions
        changeable = self._present is not None and self._space.size > 1
        for _ in range(self._attempts if changeable else 0):
            assert self._present is not None
            candidate = operators.mutate_one(self._present, decisions, rng)
            if self._fits(candidate):
                return candidate
        for _ in range(self._attempts):
            candidate = self._space.sample(rng)
            if self._fits(candidate):
                return candidate
        if not self._seen:
            limits = ", ".join(f"{item.metric} {item.text}" for item in self._problem.constraints)
            raise InfeasibleError(f"none of {self._attempts} random architectures meets {limits}")
        return None

    def _fits(self, candidate: Architecture) -> bool:
        return self._space.canonical(candidate) not in self._seen and self._problem.feasible(candidate)
