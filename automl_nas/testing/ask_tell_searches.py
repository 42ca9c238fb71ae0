"""The searches that the clauses of ask-and-tell strategies look at: `AskTellSearches`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from automl_nas.evaluation.evaluator import State
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Direction, Problem, parse_constraint
from automl_nas.strategy.racing import BLOCKS
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.services import Evaluate, SimulatedServices, finished
from automl_nas.testing.states import stored
from automl_nas.testing.toys import ToyCost, ToySpace, toy_metric
from automl_nas.testing.values import largest_code_sum

LEARNING = 45
"""The smallest number of trials after which a strategy that learns has learned something."""


class AskTellSearches(Contract):
    """The settings and searches of `AskTellContract`.

    The problem is to maximise ``accuracy`` (`toy_metric`) of a `ToySpace` with an upper limit of `ToyCost`.
    """

    trials: ClassVar[int] = 45
    """The number of trials of most clauses."""
    search_length: ClassVar[int] = 200
    """The number of trials of a search that is resumed at every step; at least as many as a search of a user has."""
    learns: ClassVar[bool] = True
    """Whether proposals depend on the metrics that the strategy received; random search does not learn."""
    several_objectives: ClassVar[bool] = True
    """Whether the strategy accepts problems with several objectives."""
    info_limit: ClassVar[int] = 10_000
    """The largest number of characters of the JSON of a proposal's ``info``."""
    state_limit: ClassVar[int] = 5_000
    """The largest number of bytes of the state for each trial, in addition to the same number for 50 trials."""
    may_repeat: ClassVar[bool] = False
    """Whether the strategy may propose the same network twice."""
    may_violate: ClassVar[bool] = False
    """Whether the strategy may propose architectures that violate a constraint on costs."""
    several_fidelities: ClassVar[bool] = False
    """Whether the strategy may propose a network once for each of several fidelities."""
    ends: ClassVar[bool] = True
    """Whether the strategy ends when all architectures are proposed."""
    exhaustive: ClassVar[bool] = True
    """Whether the strategy proposes every feasible network of a tiny space before it ends."""

    @abstractmethod
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        """Return a new strategy."""

    def space(self) -> SearchSpace:
        """Return the space of most tests (default: 5 blocks of 4 options, 1,024 architectures)."""
        return ToySpace(blocks=5, options=4)

    def small_space(self) -> SearchSpace:
        """Return a tiny space (default: 9 architectures)."""
        return ToySpace(blocks=2, options=3)

    def limit(self, space: SearchSpace) -> float:
        """Return the limit of `ToyCost` (default: half of the largest cost; about half of the space meets it)."""
        return float(sum(largest_code_sum(decision) for decision in space.decisions.values()) // 2)

    def problem(self, space: SearchSpace, limit: float | None = None) -> Problem:
        """Return the toy problem."""
        value = self.limit(space) if limit is None else limit
        constraint = parse_constraint("toy_cost", f"<= {value}")
        return Problem({"accuracy": "maximize"}, [constraint], {"toy_cost": ToyCost(space)})

    def evaluated(
        self,
        problem: Problem,
        number: int,
        proposal: Proposal,
        metrics: Mapping[str, float],
        state: State = State.COMPLETE,
        error: str = "",
    ) -> Trial:
        """Return the trial of a proposal: how an evaluator would record these metrics.

        By default an evaluation at a fidelity records the values of 16 blocks of samples, too, as `supernet_weights`
        does: the metric, with the difficulty of the block and a small deviation of the candidate. Override it for a
        strategy that needs another ability of an evaluator, for example other ``info``.

        Args:
            problem: of the search.
            number: of the trial.
            proposal: the candidate and its fidelity.
            metrics: of the evaluation.
            state: of the trial.
            error: of a failed evaluation.
        """
        trial = finished(problem, number, proposal, metrics, state, error)
        if proposal.fidelity is None or state is not State.COMPLETE:
            return trial
        blocks = {name: _blocks(value, proposal) for name, value in metrics.items()}
        return replace(trial, info={**trial.info, BLOCKS: blocks})

    def evaluation(self, space: SearchSpace, problem: Problem) -> Evaluate:
        """Return the evaluation; a few trials are failed or pruned or have a NaN metric, by their number."""

        def evaluate(number: int, proposal: Proposal) -> Trial:
            value = toy_metric(proposal.architecture, space)
            if number % 11 == 7:
                return self.evaluated(problem, number, proposal, {}, State.FAILED, "out of memory")
            if number % 13 == 6:
                return self.evaluated(problem, number, proposal, {"accuracy": value / 2}, State.PRUNED)
            return self.evaluated(problem, number, proposal, {"accuracy": math.nan if number % 17 == 5 else value})

        return evaluate

    def run(
        self,
        seed: int = 1,
        *,
        batch: int = 3,
        ahead: int = 6,
        shuffle: int | None = None,
        stop: int | None = None,
        space: SearchSpace | None = None,
        budget: int | None = None,
    ) -> list[Proposal]:
        """Run the strategy in a simulated driver; return its proposals.

        Args:
            seed: the seed of the strategy.
            batch: see `Services.batch`.
            ahead: see `Services.ahead`.
            shuffle: the seed of the order in which trials finish; None: the order of submission.
            stop: the step before which a new strategy is resumed from the stored state; None: no step.
            space: the search space; None: `space`.
            budget: the maximum number of trials; None: `trials`.
        """
        space = space or self.space()
        problem = self.problem(space)
        budget = self.trials if budget is None else budget
        services = SimulatedServices(
            self.evaluation(space, problem), batch=batch, ahead=ahead, budget=budget, shuffle=shuffle
        )
        strategy = self.make(space, problem, seed)
        for step in range(10 * budget):
            if strategy.done:
                break
            if step == stop:
                state = stored(strategy.state_dict())
                strategy = self.make(space, problem, seed)
                strategy.load_state_dict(state)
            strategy.step(services)
        return services.submitted

    def _whole(self) -> list[Proposal]:
        """Return the proposals of an undisturbed search with seed 1, made once for each class."""
        kind = type(self)
        if kind not in _WHOLE:
            _WHOLE[kind] = self.run()
        return _WHOLE[kind]

    def use(self, store: Path) -> Mapping[str, Any]:
        """Search, and continue a search from a state that is stored in the folder."""
        space = self.space()
        problem = self.problem(space)
        strategy = self.make(space, problem, 1)
        services = SimulatedServices(self.evaluation(space, problem), batch=3, ahead=6, budget=self.trials)
        file = store / "state.pt"
        if file.exists():
            stopped = torch.load(file, weights_only=True)
            services.submit([_parsed(item, space) for item in stopped["proposals"]])
            strategy.load_state_dict(stopped["state"])
        step = 0
        while not strategy.done and step < 10 * self.trials and services.remaining != 0:
            strategy.step(services)
            step += 1
            if len(services.submitted) >= self.trials // 2 and not file.exists():
                proposals = [_plain(proposal) for proposal in services.submitted]
                torch.save({"state": strategy.state_dict(), "proposals": proposals}, file)
        values: dict[str, Any] = {"continued proposals": [_plain(proposal) for proposal in services.submitted]}
        return {"proposals": [_plain(proposal) for proposal in self.run(1)], **values}

    def mixed_space(self) -> SearchSpace | None:
        """Return a space with decisions of every kind; None: the strategy searches some kinds only."""
        return DecisionSpace(
            {
                "kind": Choice(("a", "b", "c")),
                "fixed": Choice(("only",)),
                "flag": Choice((False, True)),
                "rate": Ordinal((0.1, 0.2, 0.4)),
                "width": Ordinal((8, 16, 32)),
                "edges": Subset(("x", "y", "z"), min=1),
            }
        )

    def _most(self) -> int:
        """Return the number of feasible networks of the space: a search cannot have more trials without repeating."""
        return self.trials if self.exhaustive or self.may_repeat else 1

    def _long(self, length: int, after_each_step: str) -> list[Proposal]:
        """Return the proposals of a long search; its state is never used, read or resumed after each step."""
        space = self.space()
        problem = self.problem(space)
        services = SimulatedServices(self.evaluation(space, problem), batch=5, ahead=5, budget=length)
        strategy = self.make(space, problem, 1)
        while not strategy.done and services.remaining:
            strategy.step(services)
            if after_each_step == "read":
                strategy.state_dict()
            elif after_each_step == "resume":
                state = stored(strategy.state_dict())
                strategy = self.make(space, problem, 1)
                strategy.load_state_dict(state)
        return services.submitted

    def _directed(self, direction: Direction, sign: float = 1.0, seed: int = 1) -> list[str]:
        """Return the keys of a search without constraints for one metric."""
        space = self.space()
        problem = Problem({"profit": direction}, costs={"toy_cost": ToyCost(space)})
        budget = max(self.trials, LEARNING)
        services = SimulatedServices(
            lambda number, p: self.evaluated(
                problem,
                number,
                p,
                # NaN: a network whose training diverged.
                {"profit": math.nan if number % 8 == 0 else sign * toy_metric(p.architecture, space)},
            ),
            batch=3,
            ahead=6,
            budget=budget,
        )
        strategy = self.make(space, problem, seed)
        for _ in range(10 * budget):
            if not strategy.done and services.remaining:
                strategy.step(services)
        return [proposal.architecture.key for proposal in services.submitted]

    def _require_search(
        self, space: SearchSpace, problem: Problem, what: str, scale: Callable[[float], float] = float
    ) -> None:
        def evaluate(number: int, proposal: Proposal) -> Trial:
            value = toy_metric(proposal.architecture, space)
            return self.evaluated(problem, number, proposal, {"regret": scale(1 - value), "profit": scale(value)})

        budget = min(self.trials, 20)
        services = SimulatedServices(evaluate, batch=2, ahead=4, budget=budget)
        strategy = self.make(space, problem, 1)
        for _ in range(10 * budget):
            if not strategy.done and services.remaining:
                strategy.step(services)
        for proposal in services.submitted:
            space.validate(proposal.architecture)
        count = len(services.submitted)
        require(count == budget or not self.exhaustive, f"with {what} it makes {count} of {budget} proposals")


_WHOLE: dict[type, list[Proposal]] = {}


def _blocks(value: float, proposal: Proposal) -> list[float]:
    blocks = []
    for number in range(16):
        difficulty = stream(0, "contract-block", number).gauss(0.0, 0.05)
        blocks.append(value + difficulty + stream(number, proposal.architecture.key).gauss(0.0, 0.01))
    return blocks


def _plain(proposal: Proposal) -> dict[str, Any]:
    return {"architecture": dict(proposal.architecture), "fidelity": proposal.fidelity, "info": dict(proposal.info)}


def _parsed(item: Mapping[str, Any], space: SearchSpace) -> Proposal:
    return Proposal(space.validate(item["architecture"]), item["fidelity"], item["info"])
