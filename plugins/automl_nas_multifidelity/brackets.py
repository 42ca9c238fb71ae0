"""Successive halving and Hyperband: brackets of rungs, each with fewer candidates at a higher fidelity."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, Preparation, Problem, Proposal, Trial
from automl_nas_multifidelity.candidates import Candidates, Result, best_first
from automl_nas_multifidelity.ladder import Ladder, checked_ladder


class Bracket:
    """One bracket: its present rung, and what is proposed and known of it.

    Args:
        number: of the bracket in the search.
        start: the number of the fidelity of the first rung.
        sizes: the number of candidates of each rung.
    """

    def __init__(self, number: int, start: int, sizes: Sequence[int]) -> None:
        self.number, self.start, self.sizes = number, start, list(sizes)
        self.rung = self.entered = 0
        self.queue: list[tuple[Architecture, int]] = []  # candidates of the rung that are not proposed yet
        self.outstanding: list[str] = []  # keys
        self.results: list[Result] = []

    @property
    def level(self) -> int:
        """The number of the fidelity of the present rung."""
        return self.start + self.rung

    @property
    def takes_new(self) -> bool:
        """Whether it waits for new candidates."""
        return self.rung == 0 and self.entered < self.sizes[0]

    @property
    def done(self) -> bool:
        """Whether the last rung is complete."""
        return self.rung == len(self.sizes)

    def close(self) -> None:
        """Take no more new candidates; the later rungs shrink in proportion."""
        planned = self.sizes[0]
        self.sizes = [max(1, size * self.entered // planned) for size in self.sizes]
        self.sizes[0] = self.entered
        self.advance()

    def advance(self) -> None:
        """Begin the next rung if the present one is complete."""
        while not self.done and not (self.takes_new or self.queue or self.outstanding):
            self.rung += 1
            if self.done:
                return
            promoted = best_first(self.results)[: self.sizes[self.rung]]
            self.queue, self.results = [(result.architecture, result.number) for result in promoted], []
            if not promoted:
                self.rung = len(self.sizes)

    def state(self) -> dict[str, Any]:
        """Return the bracket as plain data."""
        return {
            "number": self.number,
            "start": self.start,
            "sizes": list(self.sizes),
            "rung": self.rung,
            "entered": self.entered,
            "queue": [[architecture.to_dict(), trial] for architecture, trial in self.queue],
            "outstanding": list(self.outstanding),
            "results": [result.state() for result in self.results],
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Bracket:
        """Invert `state`."""
        bracket = cls(state["number"], state["start"], state["sizes"])
        bracket.rung, bracket.entered = state["rung"], state["entered"]
        bracket.queue = [(Architecture(values), trial) for values, trial in state["queue"]]
        bracket.outstanding = list(state["outstanding"])
        bracket.results = [Result.load(item) for item in state["results"]]
        return bracket


class BracketSearch(AskTellStrategy):
    """A search in brackets, one after the other.

    A subclass implements `_next_bracket` and calls `_begin` in its constructor. A rung ends when it has all its trials.
    While it has outstanding trials, the next bracket begins, so no worker waits. Which candidates are promoted follows
    from the trials of their rung alone: neither the number of workers nor the times at which they finish have an
    influence.
    """

    @abstractmethod
    def _next_bracket(self, number: int) -> tuple[int, list[int]]:
        """Return the first fidelity's number and the sizes of the rungs of a bracket."""

    @final
    def _begin(self, space: SearchSpace, problem: Problem, ladder: Ladder, candidates: Candidates) -> None:
        self._space, self._problem, self._ladder, self._candidates = space, problem, ladder, candidates
        self._brackets: list[Bracket] = []
        self._opened = 0
        self._exhausted_candidates = False

    @final
    @classmethod
    def fidelities(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the setting ``fidelities``; see `Strategy.fidelities`."""
        return tuple(settings.get("fidelities", ()))

    def prepare(self) -> Preparation | None:
        """Prepare the strategy of the candidates."""
        return self._candidates.prepare()

    @final
    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates: those of the oldest bracket first.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            proposals.append(proposal)
        return proposals

    def _propose(self) -> Proposal | None:
        for bracket in self._brackets:
            if bracket.queue:
                architecture, trial = bracket.queue.pop(0)
                return self._proposal(bracket, architecture, {"promoted": trial})
        while not self._exhausted_candidates:
            if not any(bracket.takes_new for bracket in self._brackets):
                self._brackets.append(Bracket(self._opened, *self._next_bracket(self._opened)))
                self._opened += 1
            bracket = next(bracket for bracket in self._brackets if bracket.takes_new)
            if (candidate := self._candidates.next()) is not None:
                bracket.entered += 1
                return self._proposal(bracket, candidate.architecture, candidate.info)
            if any(item.outstanding for item in self._brackets):
                return None  # the inner strategy may wait for them
            self._exhausted_candidates = True
            bracket.close()
            self._forget()
        return self._propose() if any(bracket.queue for bracket in self._brackets) else None

    def _proposal(self, bracket: Bracket, architecture: Architecture, info: Mapping[str, object]) -> Proposal:
        fidelity = self._ladder.fidelities[bracket.level]
        bracket.outstanding.append(self._key(architecture, fidelity))
        return Proposal(architecture, fidelity, {**info, "bracket": bracket.number, "rung": bracket.rung})

    @final
    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; see `AskTellStrategy.tell`.

        Trials that were not asked for take part in no rung. The inner strategy learns from all.
        """
        self._candidates.tell(trials)
        for trial in trials:
            key = self._key(trial.architecture, trial.fidelity)
            for bracket in self._brackets:
                if key in bracket.outstanding:
                    bracket.outstanding.remove(key)
                    bracket.results.append(Result.of(self._problem, trial))
                    bracket.advance()
                    break
        self._forget()

    def _forget(self) -> None:
        self._brackets = [bracket for bracket in self._brackets if not bracket.done]

    def _key(self, architecture: Architecture, fidelity: float | None) -> str:
        return f"{self._space.canonical(architecture).key}@{fidelity}"

    @final
    def search_state(self) -> dict[str, Any]:
        """Return brackets and candidates as plain data."""
        return {
            "opened": self._opened,
            "exhausted": self._exhausted_candidates,
            "brackets": [bracket.state() for bracket in self._brackets],
            "candidates": self._candidates.state(),
        }

    @final
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
        self._opened, self._exhausted_candidates = state["opened"], state["exhausted"]
        self._brackets = [Bracket.load(item) for item in state["brackets"]]
        self._candidates.load_state(state["candidates"])


@final
class SuccessiveHalving(BracketSearch):
    """Evaluate many candidates at the lowest fidelity, the best of them at the next one, and so on.

    Jamieson and Talwalkar 2016 (arXiv 1502.07943), algorithm 1. When a bracket is complete, another one begins with new
    candidates, until the budget of the stage is spent. The evaluator must have these fidelities: `train` has numbers of
    epochs, `nasbench201` 12 and 200, `supernet_weights` numbers of images, and `levels` the numbers of its evaluators.

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        fidelities: of the rungs, ascending, in the evaluator's unit.
        candidates: number of candidates of a bracket; null: so many that one is left in the last rung.
        reduction: how many times fewer candidates each rung has than the one before; null: as many times fewer as the
            fidelity is higher, so that each rung costs the same.
        strategy: where new candidates come from; null: they are uniformly random.
        attempts: uniform samples for one random candidate; see `random`.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        fidelities: list[float],
        candidates: int | None = None,
        reduction: float | None = None,
        strategy: AskTellStrategy | None = None,
        attempts: int = 1000,
    ) -> None:
        ladder = checked_ladder(fidelities, reduction)
        if candidates is not None and candidates < 2:
            raise ConfigurationError(f"candidates must be at least 2, not {candidates}", path="candidates")
        count = ladder.hyperband()[0][1] if candidates is None else candidates
        self._sizes = ladder.sizes(count)
        self._begin(space, problem, ladder, Candidates(space, problem, strategy, seed, attempts))

    def _next_bracket(self, number: int) -> tuple[int, list[int]]:
        return 0, self._sizes


@final
class Hyperband(BracketSearch):
    """Successive halving with different lowest fidelities in turn (Li et al. 2018, arXiv 1603.06560, algorithm 1).

    A low fidelity may order candidates wrongly. So the first bracket begins with many candidates at the lowest
    fidelity, the next one with fewer at the second one, and the last one evaluates a few at the highest fidelity only;
    all cost about the same. Then it starts again. With ``strategy: surrogate`` the new candidates come from a model of
    the results at the highest fidelity that has enough of them, as in BOHB (Falkner et al. 2018, arXiv 1807.01774).

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        fidelities: of the rungs, ascending, in the evaluator's unit.
        reduction: how many times fewer candidates each rung has than the one before; null: as many times fewer as the
            fidelity is higher, so that each rung costs the same.
        strategy: where new candidates come from; null: they are uniformly random.
        attempts: uniform samples for one random candidate; see `random`.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        fidelities: list[float],
        reduction: float | None = None,
        strategy: AskTellStrategy | None = None,
        attempts: int = 1000,
    ) -> None:
        ladder = checked_ladder(fidelities, reduction)
        self._plan = [(start, ladder.sizes(count, start)) for start, count in ladder.hyperband()]
        self._begin(space, problem, ladder, Candidates(space, problem, strategy, seed, attempts))

    def _next_bracket(self, number: int) -> tuple[int, list[int]]:
        return self._plan[number % len(self._plan)]
