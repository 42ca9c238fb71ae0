"""Asynchronous successive halving: `Asha`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, final

from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Preparation, Problem, Proposal, Trial
from automl_nas_multifidelity.candidates import Candidates, Result, best_first
from automl_nas_multifidelity.ladder import ROUNDING, checked_ladder


@final
class Asha(AskTellStrategy):
    """Promote a candidate as soon as it is among the best of its rung so far (Li et al. 2020, arXiv 1810.05934).

    Algorithm 2 of the paper: whenever a candidate is asked for, the highest rung is looked for in which one of the best
    ``1 / reduction`` of the results has not been promoted; the best such candidate is proposed at the next fidelity.
    Without one, a new candidate is proposed at the lowest. Nothing waits for a whole rung.

    In the paper the results so far depend on when workers finish. Here a stage hands results over in the order in which
    the candidates were proposed, each as soon as it and all before it are there, with at most ``ahead`` outstanding. So
    a promotion depends on a number of results that is known in advance, not on times: any number of workers, and a
    resumed run, do the same evaluations. What this costs is waiting for a long evaluation while short ones proposed
    after it are complete; ``ahead`` above the number of workers lets them go on meanwhile.

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        fidelities: of the rungs, ascending, in the evaluator's unit.
        reduction: one of so many results of a rung is promoted; null: the quotient of the two fidelities, so that each
            rung costs the same.
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
        self._space, self._problem, self._fidelities = space, problem, ladder.fidelities
        factors = ladder.factors()
        self._reductions = [after / before for before, after in pairwise(factors)]
        self._candidates = Candidates(space, problem, strategy, seed, attempts)
        self._outstanding: list[str] = []
        self._rungs: list[list[Result]] = [[] for _ in self._fidelities]
        self._orders: dict[int, list[Result]] = {}  # of rungs that have not changed since
        self._promoted: list[dict[int, None]] = [{} for _ in self._reductions]  # numbers of trials

    @classmethod
    def fidelities(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the setting ``fidelities``; see `Strategy.fidelities`."""
        return tuple(settings.get("fidelities", ()))

    def prepare(self) -> Preparation | None:
        """Prepare the strategy of the candidates."""
        return self._candidates.prepare()

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates: promoted ones first, from the highest rung down.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._promotion() or self._new()) is not None:
            self._outstanding.append(self._key(proposal))
            proposals.append(proposal)
        return proposals

    def _promotion(self) -> Proposal | None:
        for level in reversed(range(len(self._reductions))):
            promoted = self._promoted[level]
            share = math.floor(len(self._rungs[level]) / self._reductions[level] + ROUNDING)
            for result in self._ordered(level)[:share]:
                if result.number not in promoted:
                    promoted[result.number] = None
                    info = {"promoted": result.number, "rung": level + 1}
                    return Proposal(result.architecture, self._fidelities[level + 1], info)
        return None

    def _ordered(self, level: int) -> list[Result]:
        if level not in self._orders:
            self._orders[level] = best_first(self._rungs[level])
        return self._orders[level]

    def _new(self) -> Proposal | None:
        candidate = self._candidates.next()
        if candidate is None:
            return None
        return Proposal(candidate.architecture, self._fidelities[0], {**candidate.info, "rung": 0})

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; see `AskTellStrategy.tell`.

        Trials that were not asked for take part in no rung. The inner strategy learns from all.
        """
        self._candidates.tell(trials)
        for trial in trials:
            key = self._key(trial)
            if key in self._outstanding:
                self._outstanding.remove(key)
                level = self._fidelities.index(trial.fidelity or 0)
                self._rungs[level].append(Result.of(self._problem, trial))
                self._orders.pop(level, None)

    def _key(self, item: Proposal | Trial) -> str:
        return f"{self._space.canonical(item.architecture).key}@{item.fidelity}"

    def search_state(self) -> dict[str, Any]:
        """Return rungs and candidates as plain data."""
        return {
            "outstanding": list(self._outstanding),
            "rungs": [[result.state() for result in rung] for rung in self._rungs],
            "promoted": [list(numbers) for numbers in self._promoted],
            "candidates": self._candidates.state(),
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
        self._outstanding = list(state["outstanding"])
        self._rungs = [[Result.load(item) for item in rung] for rung in state["rungs"]]
        self._orders = {}
        self._promoted = [dict.fromkeys(numbers) for numbers in state["promoted"]]
        self._candidates.load_state(state["candidates"])
