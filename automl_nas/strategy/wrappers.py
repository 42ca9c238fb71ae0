"""Wrappers of ask-and-tell strategies: `Deduplicate`, `Filter` and `Retry`.

Each is an ask-and-tell strategy itself, so wrappers can be nested. In a configuration the inner strategy is a setting::

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
from automl_nas.strategy.ask_tell import AskTellStrategy, Preparation
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial


def _key(space: SearchSpace, item: Proposal | Trial) -> str:
    # Apart from the seed, an outcome is a function of the network and the fidelity.
    return f"{space.canonical(item.architecture).key}@{item.fidelity}"


def _trial_state(trial: Trial) -> dict[str, Any]:
    plain = {field.name: getattr(trial, field.name) for field in fields(trial)}
    plain["architecture"] = trial.architecture.to_dict()
    plain["state"] = trial.state.value
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()}


def _load_trial(plain: Mapping[str, Any]) -> Trial:
    return Trial(
        **{**plain, "architecture": Architecture(plain["architecture"]), "state": State(plain["state"])},
    )


def _at_least(name: str, value: int, low: int) -> int:
    if value < low:
        raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
    return value


@final
class Deduplicate(AskTellStrategy):
    """Evaluate no network twice at the same fidelity.

    If a proposal equals a finished trial, the inner strategy receives that trial at once, also if it was pruned or
    failed. If a proposal equals an outstanding trial, the inner strategy receives the trial as often as it was
    proposed. Two proposals are equal if their ``canonical`` architectures are.

    Args:
        space: the space, for ``canonical``.
        problem: supplied by the run; not used.
        strategy: the strategy to wrap.
        attempts: the maximum number of consecutive repeated proposals; after that the inner strategy counts as done,
            or as waiting while trials are outstanding.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, attempts: int = 1000
    ) -> None:
        self._space, self._inner, self._attempts = space, strategy, _at_least("attempts", attempts, 1)
        self._memory: dict[str, Trial] = {}
        self._outstanding: dict[str, int] = {}

    def prepare(self) -> Preparation | None:
        """Prepare the wrapped strategy."""
        return self._inner.prepare()

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates that are neither finished nor outstanding."""
        fresh: list[Proposal] = []
        repeated = 0
        while len(fresh) < n and repeated < self._attempts and (proposals := self._inner.ask(n - len(fresh))):
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
                    repeated = 0
                    continue
                repeated += 1
            if answers:
                self._inner.tell(answers)
        return fresh

    def tell(self, trials: Sequence[Trial]) -> None:
        """Remember trials and pass each on as often as it was proposed."""
        passed_on: list[Trial] = []
        for trial in trials:
            key = _key(self._space, trial)
            self._memory[key] = trial
            passed_on += [trial] * self._outstanding.pop(key, 1)
        self._inner.tell(passed_on)

    def search_state(self) -> dict[str, Any]:
        """Return the memory and the inner strategy's state."""
        return {
            "inner": self._inner.search_state(),
            "memory": {key: _trial_state(trial) for key, trial in self._memory.items()},
            "outstanding": dict(self._outstanding),
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._memory = {key: _load_trial(plain) for key, plain in state["memory"].items()}
        self._outstanding = dict(state["outstanding"])


@final
class Filter(AskTellStrategy):
    """Do not evaluate candidates that miss a constraint on costs.

    The inner strategy receives for each of them at once a PRUNED trial with its costs and violations, without metrics,
    and with a negative number, since it is not a trial of the run.

    Args:
        space: supplied by the run; not used.
        problem: its constraints on costs are checked.
        strategy: the strategy to wrap.
        attempts: the maximum number of consecutive infeasible proposals; after that the inner strategy counts as done,
            or as waiting while trials are outstanding.
    """

    def __init__(
        self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, attempts: int = 10_000
    ) -> None:
        self._problem, self._inner, self._attempts = problem, strategy, _at_least("attempts", attempts, 1)
        self._dropped = 0
        self._passed = 0

    def prepare(self) -> Preparation | None:
        """Prepare the wrapped strategy."""
        return self._inner.prepare()

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n feasible candidates.

        Raises:
            InfeasibleError: ``attempts`` consecutive candidates miss a constraint, and no candidate was ever feasible.
        """
        feasible: list[Proposal] = []
        consecutive = 0
        nearest, least = "", math.inf
        while len(feasible) < n and consecutive < self._attempts and (proposals := self._inner.ask(n - len(feasible))):
            pruned: list[Trial] = []
            for proposal in proposals:
                if self._problem.feasible(proposal.architecture):
                    feasible.append(proposal)
                    consecutive = 0
                    continue
                consecutive += 1
                trial = self._pruned(proposal)
                pruned.append(trial)
                violation = sum(max(0.0, value) for value in trial.violations.values())
                if violation <= least:
                    least = violation
                    nearest = ", ".join(
                        f"'{text}' by {value:.3g} times the limit"
                        for text, value in trial.violations.items()
                        if value > 0
                    )
            if pruned:
                self._inner.tell(pruned)
        self._passed += len(feasible)
        if consecutive >= self._attempts and not self._passed:
            raise InfeasibleError(
                f"none of {consecutive} candidates meets the constraints; the nearest misses {nearest}. "
                "Relax the constraint, or use a strategy that draws feasible candidates itself"
            )
        return feasible

    def _pruned(self, proposal: Proposal) -> Trial:
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
        """Return the inner strategy's state, and how many candidates were dropped and passed."""
        return {"inner": self._inner.search_state(), "dropped": self._dropped, "passed": self._passed}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._dropped, self._passed = state["dropped"], state["passed"]


@final
class Retry(AskTellStrategy):
    """Evaluate a candidate again after it failed; the inner strategy receives the last attempt only.

    This is for failures by chance, such as memory that another program used or a lost device. Candidates to repeat are
    proposed before new ones.

    Args:
        space: the space, for ``canonical``.
        problem: supplied by the run; not used.
        strategy: the strategy to wrap.
        times: the maximum number of repetitions of one proposal.
    """

    def __init__(self, space: SearchSpace, problem: Problem, *, strategy: AskTellStrategy, times: int = 1) -> None:
        self._inner, self._times = strategy, _at_least("times", times, 1)
        self._space = space
        self._outstanding: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._again: list[Proposal] = []

    def prepare(self) -> Preparation | None:
        """Prepare the wrapped strategy."""
        return self._inner.prepare()

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
        """Pass trials on, except failures that are to be repeated."""
        passed_on: list[Trial] = []
        for trial in trials:
            key = _key(self._space, trial)
            outstanding = self._outstanding.pop(key, 0)
            if outstanding > 1:
                self._outstanding[key] = outstanding - 1
            failures = self._failed.pop(key, 0)
            if outstanding and trial.state is State.FAILED and failures < self._times:
                self._failed[key] = failures + 1
                self._again.append(Proposal(trial.architecture, trial.fidelity, {**trial.info, "retry": failures + 1}))
            else:
                passed_on.append(trial)
        if passed_on:
            self._inner.tell(passed_on)

    def search_state(self) -> dict[str, Any]:
        """Return the outstanding candidates, those to repeat, and the inner strategy's state."""
        again = [[item.architecture.to_dict(), item.fidelity, dict(item.info)] for item in self._again]
        return {
            "inner": self._inner.search_state(),
            "outstanding": dict(self._outstanding),
            "failed": dict(self._failed),
            "again": again,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._inner.load_search_state(state["inner"])
        self._outstanding, self._failed = dict(state["outstanding"]), dict(state["failed"])
        self._again = [Proposal(Architecture(item), fidelity, info) for item, fidelity, info in state["again"]]
