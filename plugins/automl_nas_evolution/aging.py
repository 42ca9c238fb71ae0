"""Regularised (aging) evolution."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.search.problem import Problem
from automl_nas.search.trial import Proposal
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import mutate_one
from automl_nas.space.space import SearchSpace
from automl_nas_evolution.explorer import Explorer
from automl_nas_evolution.members import Member, fittest


@final
class AgingEvolution(Explorer):
    """Regularised evolution (Real et al. 2019, arXiv 1802.01548, algorithm 1).

    The population starts random. After that each candidate is a copy of the best of ``sample_size`` members drawn with
    replacement, with one decision changed; it joins the population when it is told, and the oldest member dies,
    however good it is. Mutations that violate a constraint on costs or that are known already are drawn again,
    tournament included. Failed candidates do not join.

    Args:
        space: what is searched.
        problem: objectives and constraints; with several objectives a tournament is won by NSGA-II's order.
        seed: of the run.
        population: members alive (P of the paper).
        sample_size: members in a tournament (S of the paper).
        child_attempts: mutations tried for one candidate before it is drawn at random.
        duplicates: whether a network may be evaluated twice.
        attempts: uniform draws for one random candidate before other ways are tried; see `Drawer`.

    Raises:
        ConfigurationError: a setting is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        population: int = 100,
        sample_size: int = 25,
        child_attempts: int = 100,
        duplicates: bool = False,
        attempts: int = 1000,
    ) -> None:
        super().__init__(space, problem, seed=seed, duplicates=duplicates, attempts=attempts)
        for name, value in (
            ("population", population),
            ("sample_size", sample_size),
            ("child_attempts", child_attempts),
        ):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}", path=name)
        self._size, self._sample_size, self._child_attempts = population, sample_size, child_attempts
        self._mutable = space.size > 1
        self._members: deque[Member] = deque()

    def _propose(self) -> Proposal | None:
        alive = len(self._members)
        if alive < self._size and alive + sum(self._outstanding.values()) >= self._size:
            return None
        rng = self._of_this_ask("aging")
        if alive == self._size and self._mutable:
            members = list(self._members)
            for _ in range(self._child_attempts):
                rivals = [members[int(rng.random() * alive)] for _ in range(self._sample_size)]
                parent = fittest(rivals, 1)[0]
                child = mutate_one(parent.architecture, self._decisions, rng)
                if self._claim(child):
                    return Proposal(child, info={"origin": "mutation", "parents": [parent.number]})
        drawn = self._draw(rng)
        return None if drawn is None else Proposal(drawn, info={"origin": "random"})

    def _learn(self, architecture: Architecture, member: Member | None, asked: bool) -> None:
        if member is not None:
            self._members.append(member)
            if len(self._members) > self._size:
                self._members.popleft()

    def _own_state(self) -> dict[str, Any]:
        return {"members": [member.state() for member in self._members]}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._members = deque(Member.load(item) for item in state["members"])
