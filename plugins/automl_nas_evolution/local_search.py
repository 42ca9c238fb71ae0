"""Local search."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, final

from automl_nas.space import Architecture, SearchSpace, neighbours
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas_evolution.deduplicating_search import DeduplicatingSearch, make_proposal
from automl_nas_evolution.members import Member, fittest


@final
class LocalSearch(DeduplicatingSearch):
    """Move from a random start to better feasible neighbours; at a local optimum, restart from another random start.

    Local search is a strong baseline (White et al. 2021, "Exploring the Loss Landscape in NAS", arXiv 2005.02960). A
    neighbour differs in one decision by one step (`Decision.neighbours`). The results of
    neighbours that were evaluated before are reused, also those of earlier climbs. With several objectives, a neighbour
    is better if it dominates.

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        improvement: ``steepest``: evaluate all neighbours and move to the best; ``first``: move to the first better
            neighbour.
        attempts: uniform samples for one random start before `FeasibleSampler` uses other methods.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        improvement: Literal["steepest", "first"] = "steepest",
        attempts: int = 1000,
    ) -> None:
        super().__init__(space, problem, seed=seed, duplicates=False, attempts=attempts)
        self._first = improvement == "first"
        # Canonical architecture -> its result, except of failed and pruned trials.
        self._evaluated: dict[Architecture, Member] = {}
        self._start: Architecture | None = None
        self._centre: Member | None = None
        self._nearby: list[Architecture] = []
        self._pending: deque[Architecture] = deque()
        self._moves = 0
        self._climbs = 0

    def _propose(self) -> Proposal | None:
        while True:
            if self._centre is not None and (self._first or self._complete):
                if (better := self._better(self._centre)) is not None:
                    self._move(better)
                    continue
                if self._complete:
                    self._centre = None
            if self._pending:
                neighbour = self._pending.popleft()
                if self._claim(neighbour):
                    return make_proposal(neighbour, {"origin": "neighbour", "climb": self._climbs})
                continue
            if self._outstanding:
                return None
            if self._start is not None and (first := self._evaluated.get(self._start)) is not None:
                self._start = None
                self._move(first)
                continue
            start = self._sample(self._stream("local/start", self._climbs))
            if start is None:
                return None
            self._climbs += 1
            self._start = self._space.canonical(start)
            return make_proposal(start, {"origin": "start", "climb": self._climbs})

    @property
    def _complete(self) -> bool:
        return not self._pending and not any(item in self._outstanding for item in self._nearby)

    def _better(self, centre: Member) -> Member | None:
        better = [m for item in self._nearby if (m := self._evaluated.get(item)) is not None and m.beats(centre)]
        if not better:
            return None
        return better[0] if self._first else fittest(better, 1)[0]

    def _move(self, centre: Member) -> None:
        self._centre = centre
        near = list(neighbours(centre.architecture, self._decisions))
        self._stream("local/neighbours", self._moves).shuffle(near)
        self._moves += 1
        self._nearby = [self._space.canonical(item) for item in near]
        self._pending = deque(item for item in near if self._available(item))

    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        if (member := Member.of(self._problem, trial)) is not None:
            self._evaluated[architecture] = member

    def _own_state(self) -> dict[str, Any]:
        return {
            "known": [[item.to_dict(), member.state()] for item, member in self._evaluated.items()],
            "start": None if self._start is None else self._start.to_dict(),
            "centre": None if self._centre is None else self._centre.state(),
            "nearby": [item.to_dict() for item in self._nearby],
            "pending": [item.to_dict() for item in self._pending],
            "moves": self._moves,
            "climbs": self._climbs,
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._evaluated = {Architecture(item): Member.load(member) for item, member in state["known"]}
        self._start = None if state["start"] is None else Architecture(state["start"])
        self._centre = None if state["centre"] is None else Member.load(state["centre"])
        self._nearby = [Architecture(item) for item in state["nearby"]]
        self._pending = deque(Architecture(item) for item in state["pending"])
        self._moves, self._climbs = state["moves"], state["climbs"]
