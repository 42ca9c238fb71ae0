"""Strategies that need values of blocks, which an evaluation at a fidelity records, and break their contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from automl_nas.evaluation import State
from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.testing import AskTellContract, Contract
from broken_plugins.cases import Cases
from broken_plugins.searches import Climber


def contract(component: Any) -> type[Contract]:
    class Subject(AskTellContract):
        trials: ClassVar[int] = 40
        search_length: ClassVar[int] = 120
        several_fidelities: ClassVar[bool] = True

        def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
            made: AskTellStrategy = component(space, problem, seed=seed)
            return made

    return Subject


CASES = Cases("races", contract)


@CASES.keeps
class Halves(Climber):
    """Scores each candidate at a low fidelity by its blocks, and again in full if the first half is good."""

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        self.again: list[str] = []
        self.middle: float | None = None

    def propose(self, architecture: Any) -> Proposal:
        return Proposal(architecture, 8.0)

    def ask(self, n: int) -> list[Proposal]:
        count = min(n, len(self.again))
        full = [Proposal(self.space.validate(self.parsed(key))) for key in self.again[:count]]
        del self.again[:count]
        return full + super().ask(n - count)

    def parsed(self, key: str) -> Mapping[str, object]:
        from automl_nas.space import Architecture

        return Architecture.from_json(key)

    def blocks(self, trial: Trial) -> Sequence[float]:
        (name,) = list(self.problem.objectives)[:1]
        values: Any = trial.info["blocks"]
        return values[name]  # type: ignore[no-any-return]

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        for trial in trials:
            if trial.fidelity == 8.0 and trial.state is State.COMPLETE:
                mean = sum(self.blocks(trial)) / len(self.blocks(trial))
                if self.middle is None or mean > self.middle:
                    self.again.append(trial.architecture.key)
                if mean == mean:
                    self.middle = mean if self.middle is None else 0.5 * (mean + self.middle)

    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "again": list(self.again), "middle": self.middle}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(state)
        self.again, self.middle = list(state["again"]), state["middle"]


@CASES.breaks("it_continues_when_all_trials_fail")
class BlocksOfFailures(Halves):
    """Reads blocks of trials that failed."""

    def tell(self, trials: Sequence[Trial]) -> None:
        assert all(self.blocks(trial) for trial in trials if trial.fidelity == 8.0)
        super().tell(trials)


@CASES.breaks("it_resumes_at_every_step")
class ForgetsTheMiddle(Halves):
    """The mean that a candidate must exceed is not in the state."""

    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "middle": None}


@CASES.breaks("no_network_is_proposed_twice")
class FinishesTwice(Halves):
    """Scores a candidate again in full that it has scored in full."""

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self.again += [trial.architecture.key for trial in trials if trial.fidelity is None][:1]


@CASES.breaks("it_learns_from_trials_it_never_asked_for")
class BlocksOfForeigners(Halves):
    """Reads blocks of trials of another strategy, which have none."""

    def tell(self, trials: Sequence[Trial]) -> None:
        assert all(self.blocks(trial) for trial in trials if trial.state is State.COMPLETE and trial.number >= 100)
        super().tell(trials)


@CASES.breaks("proposals_have_the_declared_types")
class FidelityAsText(Halves):
    def propose(self, architecture: Any) -> Proposal:
        return Proposal(architecture, "8")  # type: ignore[arg-type]
