"""Regularised evolution, also called aging evolution."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas_evolution.deduplicating_search import DeduplicatingSearch, make_proposal
from automl_nas_evolution.members import Member, Rank, fittest


@final
class RegularizedEvolution(DeduplicatingSearch):
    """Regularised evolution (Real et al. 2019, arXiv 1802.01548, algorithm 1).

    The first ``population`` candidates are random. Each later candidate is a copy of the winner of a tournament among
    ``sample_size`` members, sampled with replacement, with one decision changed. It joins the population when its trial
    is received; then the oldest member is removed, also if it is the best. If the copy violates a constraint on costs
    or was proposed before, tournament and mutation are repeated. Failed candidates do not join.

    Args:
        space: the search space.
        problem: objectives and constraints; with several objectives, NSGA-II's order decides a tournament.
        seed: of the run.
        population: number of members (P in the paper).
        sample_size: number of members in a tournament (S in the paper).
        child_attempts: mutations tried for one candidate before a random candidate is proposed.
        duplicates: whether a network may be evaluated twice.
        attempts: uniform samples for one random candidate before `FeasibleSampler` uses other methods.

    Raises:
        ConfigurationError: a setting is outside its range.
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
        self._single = len(problem.objectives) == 1
        # The members, the oldest first; their ranks and their integer codes in the same order.
        self._members: list[Member] = []
        self._ranks: list[Rank] = []
        self._codes: list[int] = []

    def _propose(self) -> Proposal | None:
        count = len(self._members)
        if count < self._size and count + sum(self._outstanding.values()) >= self._size:
            return None
        rng = self._ask_stream("aging")
        if count == self._size and self._mutable:
            mutate_one, codes, rejected = self._codec.mutate_one, self._codes, self._rejected_codes
            for _ in range(self._child_attempts):
                parent = self._tournament(rng)
                code = mutate_one(codes[parent], rng)
                if code not in rejected and (child := self._claim_code(code)) is not None:
                    return make_proposal(child, {"origin": "mutation", "parents": [self._members[parent].number]})
        architecture = self._sample(rng)
        return None if architecture is None else make_proposal(architecture, {"origin": "random"})

    def _tournament(self, rng: random.Random) -> int:
        """Return the index of the winner among ``sample_size`` sampled members."""
        draw, count = rng.random, len(self._members)
        rivals = [int(draw() * count) for _ in range(self._sample_size)]
        if self._single:
            return min(rivals, key=self._ranks.__getitem__)
        best = fittest([self._members[place] for place in rivals], 1)[0]
        return next(place for place in rivals if self._members[place] is best)

    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        if (member := Member.of(self._problem, trial)) is not None:
            self._join(member)
            if len(self._members) > self._size:
                del self._members[0], self._ranks[0], self._codes[0]

    def _join(self, member: Member) -> None:
        self._members.append(member)
        self._ranks.append(member.rank())
        self._codes.append(self._codec.encode(member.architecture))

    def _own_state(self) -> dict[str, Any]:
        return {"members": [member.state() for member in self._members]}

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._members, self._ranks, self._codes = [], [], []
        for item in state["members"]:
            self._join(Member.load(item))
