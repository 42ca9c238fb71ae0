"""The common base of all strategies of this plugin: proposed and outstanding networks, and random sampling."""

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
    """A search that does not propose the same network twice, unless ``duplicates`` is set.

    A subclass implements `_propose`, `_learn`, `_own_state` and `_load_own_state`. It calls `_claim` for every
    architecture that it is going to propose. All random numbers come from `_stream`, so the state contains counters and
    no generator.

    Args:
        space: the search space; equal networks have the same ``canonical`` architecture.
        problem: objectives and constraints.
        seed: the seed of the random streams.
        duplicates: whether a network may be proposed again.
        attempts: uniform samples for one random candidate before `FeasibleSampler` uses other methods.
    """

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int, duplicates: bool, attempts: int) -> None:
        self._space, self._problem, self._decisions = space, problem, space.decisions
        self._seed, self._duplicates = seed, duplicates
        self._sampler = FeasibleSampler(space, problem, attempts)
        self._codec = self._sampler.codec
        # Codes of architectures that are rejected without another check: infeasible ones and, unless duplicates are
        # allowed, claimed ones. Late in a search most children are among them.
        self._rejected_codes: set[int] = set()
        self._proposed_keys: dict[Architecture, None] = {}
        self._unavailable: Container[Architecture] = () if duplicates else self._proposed_keys
        self._outstanding: dict[Architecture, int] = {}
        self._proposed = 0
        self._generator: random.Random | None = None

    @abstractmethod
    def _propose(self) -> Proposal | None:
        """Return the next candidate; None: wait for outstanding trials or, without any, end the search."""

    @abstractmethod
    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        """Learn from one trial.

        Args:
            architecture: the trial's architecture in canonical form.
            trial: a complete, failed or pruned trial; see `Member.of`.
            asked: whether the trial was outstanding.
        """

    @abstractmethod
    def _own_state(self) -> dict[str, Any]:
        """Return the state of the subclass, with JSON-like values only."""

    @abstractmethod
    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        """Load what `_own_state` returned."""

    @final
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
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
        """Return counters, architectures and their results as plain data."""
        return {
            "proposed": self._proposed,
            "claimed": [item.key for item in self._proposed_keys],
            "outstanding": [[item.to_dict(), count] for item, count in self._outstanding.items()],
            **self._own_state(),
        }

    @final
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
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
    def _ask_stream(self, purpose: str) -> random.Random:
        """Return the generator of this call of `ask`; it is shared, since making one takes as long as ten draws."""
        if self._generator is None:
            self._generator = self._stream(purpose, self._proposed)
        return self._generator

    @final
    def _available(self, architecture: Architecture) -> bool:
        """Whether an architecture may be proposed: it meets the constraints on costs and is not claimed."""
        return self._space.canonical(architecture) not in self._unavailable and self._problem.feasible(architecture)

    @final
    def _claim(self, architecture: Architecture) -> bool:
        """Claim an architecture, so that it is not proposed again; return False if it was not available."""
        key = self._space.canonical(architecture)
        if key in self._unavailable or not self._problem.feasible(architecture):
            return False
        self._proposed_keys[key] = None
        return True

    @final
    def _claim_code(self, code: int) -> Architecture | None:
        """Claim the architecture of a code and return it; None if it was not available."""
        if code in self._rejected_codes:
            return None
        architecture = self._codec.decode(code)
        claimed = self._claim(architecture)
        if not (claimed and self._duplicates):
            self._rejected_codes.add(code)
        return architecture if claimed else None

    @final
    def _sample(self, rng: random.Random) -> Architecture | None:
        """Sample an available architecture, claim and return it; None if no architecture is available."""
        try:
            architecture = self._sampler.draw(rng, self._unavailable, self._rejected_codes)
        except InfeasibleError:
            if self._proposed_keys:
                return None
            raise
        if architecture is not None:
            self._proposed_keys[self._space.canonical(architecture)] = None
        return architecture


def make_proposal(architecture: Architecture, info: Mapping[str, object]) -> Proposal:
    """Return the proposal of an architecture; faster than the constructor of `Proposal`."""
    return new_frozen(Proposal, {"architecture": architecture, "fidelity": None, "info": info})
