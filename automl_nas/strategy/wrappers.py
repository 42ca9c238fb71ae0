"""Wrappers round any ask-and-tell strategy: `Deduplicate`, `Filter` and `Retry`.

Each is an ask-and-tell strategy itself, so they nest. In a configuration the inner strategy is written inside::

    strategy: {name: deduplicate, strategy: {name: evolution, population: 20}}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial


def _key(space: SearchSpace, item: Proposal | Trial) -> str:
    # What an outcome is a function of, the seed aside: the network and the fidelity.
    return f"{space.canonical(item.architecture).key}@{item.fidelity}"


def _pack(trial: Trial) -> dict[str, Any]:
    plain = {field.name: getattr(trial, field.name) for field in fields(trial)}
    plain["architecture"] = trial.architecture.to_dict()
    plain["state"] = trial.state.value
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()}


def _unpack(plain: Mapping[str, Any]) -> Trial:
    return Trial(
        **{**plain, "architecture": Architecture(plain["architecture"]), "state": State(plain["state"])},
    )


def _at_least(name: str, value: int, low: int) -> int:
    if value < low:
        raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
    return value


@final
class Deduplicate(AskTellStrategy):
    """Let no network be evaluated twice at the same fidelity.

    A proposal that equals a finished trial is answered with it at once; one that equals an outstanding trial is
    answered when that one is told. Equal means equal ``canonical`` architectures. A pruned or failed trial is an
    answer, too.

    Args:
        space: gives ``canonical``.
        problem: passed over by the run like to every strategy.
        strategy: what to wrap.
        attempts: how many known proposals in a row are answered; after them the inner strategy counts as done, or as
            waiting while some are outstanding.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, attempts: int = 1000
    ) -> None:
        self._space, self._inner, self._attempts = space, strategy, _at_least("attempts", attempts, 1)
        self._memory: dict[str, Trial] = {}
        self._outstanding: dict[str, int] = {}

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates that are neither finished nor outstanding."""
        fresh: list[Proposal] = []
        known = 0
        while len(fresh) < n and known < self._attempts and (proposals := self._inner.ask(n - len(fresh))):
            answers: list[Trial] = []
            for proposal in proposals:
                key = _key(self._space, proposal)
                if key in self._memory:
                    answers.append(self._memory[key])
                elif key in self._outstanding:
                    self._outstanding[key] += 1
                else:
                    self._outstanding[key] = 1
                    fresh.append(proposal)
                    known = 0
                    continue
                known += 1
            if answers:
                self._inner.tell(answers)
        return fresh

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember trials and pass each on as often as it was proposed."""
        told: list[Trial] = []
        for trial in trials:
            key = _key(self._space, trial)
            self._memory[key] = trial
            told += [trial] * self._outstanding.pop(key, 1)
        self._inner.tell(told)

    def search_state(self) -> dict[str, Any]:
        """Return the memory and the inner strategy's state."""
        return {
            "inner": self._inner.search_state(),
            "memory": {key: _pack(trial) for key, trial in self._memory.items()},
            "outstanding": dict(self._outstanding),
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._memory = {key: _unpack(plain) for key, plain in state["memory"].items()}
        self._outstanding = dict(state["outstanding"])


@final
class Filter(AskTellStrategy):
    """Keep candidates that miss a constraint on costs from being evaluated.

    The inner strategy is told about each of them at once: a PRUNED trial with its costs and violations, no metrics,
    and a negative number, since it never ran.

    Args:
        space: passed over by the run like to every strategy.
        problem: whose constraints on costs are judged.
        strategy: what to wrap.
        attempts: how many infeasible proposals in a row are dropped; after them the inner strategy counts as done, or
            as waiting while some are outstanding.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, attempts: int = 10_000
    ) -> None:
        self._problem, self._inner, self._attempts = problem, strategy, _at_least("attempts", attempts, 1)
        self._dropped = 0
        self._passed = 0

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n feasible candidates.

        Raises:
            InfeasibleError: ``attempts`` candidates in a row miss a constraint, and none ever met them all.
        """
        kept: list[Proposal] = []
        row = 0
        nearest, gap = "", math.inf
        while len(kept) < n and row < self._attempts and (proposals := self._inner.ask(n - len(kept))):
            refused: list[Trial] = []
            for proposal in proposals:
                if self._problem.feasible(proposal.architecture):
                    kept.append(proposal)
                    row = 0
                    continue
                row += 1
                trial = self._refuse(proposal)
                refused.append(trial)
                missed = sum(max(0.0, value) for value in trial.violations.values())
                if missed <= gap:
                    gap = missed
                    nearest = ", ".join(
                        f"'{text}' by {v:.3g} of its limit" for text, v in trial.violations.items() if v > 0
                    )
            if refused:
                self._inner.tell(refused)
        self._passed += len(kept)
        if row >= self._attempts and not self._passed:
            raise InfeasibleError(
                f"none of {row} candidates meets the constraints; the nearest misses {nearest}. "
                "Relax the constraint, or use a strategy that knows of constraints"
            )
        return kept

    def _refuse(self, proposal: Proposal) -> Trial:
        self._dropped += 1
        return Trial(
            number=-self._dropped,
            architecture=proposal.architecture,
            costs=self._problem.costs(proposal.architecture),
            violations=self._problem.violations(proposal.architecture),
            state=State.PRUNED,
            fidelity=proposal.fidelity,
            info=proposal.info,
        )

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials on."""
        self._inner.tell(trials)

    def search_state(self) -> dict[str, Any]:
        """Return the inner strategy's state and two counts."""
        return {"inner": self._inner.search_state(), "dropped": self._dropped, "passed": self._passed}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._dropped, self._passed = state["dropped"], state["passed"]


@final
class Retry(AskTellStrategy):
    """Evaluate a candidate again when it failed; the inner strategy learns of the last attempt only.

    For failures by chance: memory that another program took, a device that was lost. Candidates to repeat are proposed
    before new ones.

    Args:
        space: passed over by the run like to every strategy.
        problem: passed over by the run like to every strategy.
        strategy: what to wrap.
        times: how often one proposal is repeated at most.
    """

    def __init__(self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, times: int = 1) -> None:
        self._inner, self._times = strategy, _at_least("times", times, 1)
        self._space = space
        self._outstanding: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._again: list[Proposal] = []

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates, failed ones first."""
        proposals, self._again = self._again[:n], self._again[n:]
        if len(proposals) < n:
            proposals += self._inner.ask(n - len(proposals))
        for proposal in proposals:
            key = _key(self._space, proposal)
            self._outstanding[key] = self._outstanding.get(key, 0) + 1
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials on, but for failures that are to be repeated."""
        told: list[Trial] = []
        for trial in trials:
            key = _key(self._space, trial)
            asked = self._outstanding.pop(key, 0)
            if asked > 1:
                self._outstanding[key] = asked - 1
            failures = self._failed.pop(key, 0)
            if asked and trial.state is State.FAILED and failures < self._times:
                self._failed[key] = failures + 1
                self._again.append(Proposal(trial.architecture, trial.fidelity, {**trial.info, "retry": failures + 1}))
            else:
                told.append(trial)
        if told:
            self._inner.tell(told)

    def search_state(self) -> dict[str, Any]:
        """Return what is outstanding, what is to be repeated, and the inner strategy's state."""
        again = [[item.architecture.to_dict(), item.fidelity, dict(item.info)] for item in self._again]
        return {
            "inner": self._inner.search_state(),
            "outstanding": dict(self._outstanding),
            "failed": dict(self._failed),
            "again": again,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._outstanding, self._failed = dict(state["outstanding"]), dict(state["failed"])
        self._again = [Proposal(Architecture(item), fidelity, info) for item, fidelity, info in state["again"]]
