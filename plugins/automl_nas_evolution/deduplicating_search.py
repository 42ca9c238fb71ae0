"""What all strategies of this plugin share: what is known, what is outstanding, and drawing at random."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Container, Mapping, Sequence
from typing import Any, final

from automl_nas.errors import InfeasibleError
from automl_nas.fast_dataclass import new_frozen
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Proposal, Trial
from automl_nas.streams import stream


class DeduplicatingSearch(AskTellStrategy):
    """A search that never proposes the same network twice, unless asked.

    A subclass gives `_propose`, `_learn`, `_own_state` and `_load_own_state`. It calls `_claim` for every
    architecture it is going to propose. All its randomness comes from `_stream`, so its state holds counters and no
    generator.

    Args:
        space: what is searched; equal networks are recognised by its ``canonical``.
        problem: objectives and constraints.
        seed: of the streams.
        duplicates: whether a network may be proposed again.
        attempts: uniform draws before a random candidate is looked for in other ways (`FeasibleSampler`).
    """

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int, duplicates: bool, attempts: int) -> None:
        self._space, self._problem, self._decisions = space, problem, space.decisions
        self._seed, self._duplicates = seed, duplicates
        self._drawer = FeasibleSampler(space, problem, attempts)
        self._codec = self._drawer.codec
        # The numbers of architectures that need not be looked at again: infeasible ones, and unless duplicates are
        # asked for those that are claimed. Most of what is tried late is in here.
        self._rejected_codes: set[int] = set()
        self._proposed_keys: dict[Architecture, None] = {}
        self._taken: Container[Architecture] = () if duplicates else self._proposed_keys
        self._outstanding: dict[Architecture, int] = {}
        self._proposed = 0
        self._generator: random.Random | None = None

    @abstractmethod
    def _propose(self) -> Proposal | None:
        """Return the next candidate; None: wait while some are outstanding, done when none are."""

    @abstractmethod
    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        """Learn from one trial.

        Args:
            architecture: its architecture in canonical form.
            trial: complete, failed or pruned; `Member.of` says what it is worth.
            asked: whether it was outstanding.
        """

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return the subclass's part of the state: JSON-like values only."""

    @abstractmethod
    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `_own_state` returned."""

    @final
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints was ever found.
        """
        proposals: list[Proposal] = []
        self._generator = None
        while len(proposals) < n and (proposal := self._propose()) is not None:
            key = self._space.canonical(proposal.architecture)
            self._outstanding[key] = self._outstanding.get(key, 0) + 1
            self._proposed += 1
            proposals.append(proposal)
        return proposals

    @final
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; see `AskTellStrategy.tell`.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            count = self._outstanding.get(key, 0)
            if count > 1:
                self._outstanding[key] = count - 1
            elif count:
                del self._outstanding[key]
            else:
                key = self._space.canonical(self._space.validate(trial.architecture))
                self._proposed_keys[key] = None
            self._learn(key, trial, count > 0)

    @final
    def search_state(self) -> dict[str, Any]:
        """Return counters, architectures and what they were worth, as plain data."""
        return {
            "proposed": self._proposed,
            "claimed": [item.key for item in self._proposed_keys],
            "outstanding": [[item.to_dict(), count] for item, count in self._outstanding.items()],
            **self._own_state(),
        }

    @final
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._proposed = state["proposed"]
        self._proposed_keys.clear()
        self._rejected_codes.clear()
        self._proposed_keys.update(dict.fromkeys(Architecture.from_json(text) for text in state["claimed"]))
        self._outstanding = {Architecture(item): count for item, count in state["outstanding"]}
        self._load_own_state(state)

    @final
    def _stream(self, purpose: str, counter: int) -> random.Random:
        return stream(self._seed, purpose, counter)

    @final
    def _of_this_ask(self, purpose: str) -> random.Random:
        """Return the generator of one call of `ask`: to make one takes as long as ten draws do."""
        if self._generator is None:
            self._generator = self._stream(purpose, self._proposed)
        return self._generator

    @final
    def _free(self, architecture: Architecture) -> bool:
        """Whether it may be proposed: it meets the constraints on costs and is not claimed."""
        return self._space.canonical(architecture) not in self._taken and self._problem.feasible(architecture)

    @final
    def _claim(self, architecture: Architecture) -> bool:
        """Keep it, if it is free, from being proposed again; return whether it was free."""
        key = self._space.canonical(architecture)
        if key in self._taken or not self._problem.feasible(architecture):
            return False
        self._proposed_keys[key] = None
        return True

    @final
    def _claimed_of(self, code: int) -> Architecture | None:
        """Return the architecture of a number, now claimed; None if it was not free."""
        if code in self._rejected_codes:
            return None
        architecture = self._codec.decode(code)
        free = self._claim(architecture)
        if not (free and self._duplicates):
            self._rejected_codes.add(code)
        return architecture if free else None

    @final
    def _draw(self, rng: random.Random) -> Architecture | None:
        """Draw a free architecture at random and claim it; None when none is left."""
        try:
            drawn = self._drawer.draw(rng, self._taken, self._rejected_codes)
        except InfeasibleError:
            if self._proposed_keys:
                return None
            raise
        if drawn is not None:
            self._proposed_keys[self._space.canonical(drawn)] = None
        return drawn


def proposed(architecture: Architecture, info: Mapping[str, object]) -> Proposal:
    """Return the proposal of an architecture."""
    return new_frozen(Proposal, {"architecture": architecture, "fidelity": None, "info": info})
