"""Contract tests of ask-and-tell strategies: `AskTellContract`.

Derive a class whose name begins with ``Test`` and implement the abstract method::

    class TestMySearch(AskTellContract):
        def make(self, space, problem, seed):
            return MySearch(space, problem, seed=seed)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

from automl_nas.errors import InfeasibleError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing.checkers import require_checker
from automl_nas.testing.services import Evaluate, SimulatedServices, finished
from automl_nas.testing.states import require_plain, stored
from automl_nas.testing.toys import ToyCost, ToySpace, toy_metric
from automl_nas.testing.values import example_value, largest_code_sum


class AskTellContract(ABC):
    """The tests of an `AskTellStrategy`.

    The problem is to maximise ``accuracy`` (`toy_metric`) of a `ToySpace` with an upper limit of `ToyCost`.
    """

    trials: ClassVar[int] = 45
    """The number of trials of most tests."""
    may_repeat: ClassVar[bool] = False
    """Whether the strategy may propose the same network twice."""
    may_violate: ClassVar[bool] = False
    """Whether the strategy may propose architectures that violate a constraint on costs."""
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

    def evaluation(self, space: SearchSpace, problem: Problem) -> Evaluate:
        """Return the evaluation; a few trials are failed or pruned or have a NaN metric, by their number."""

        def evaluate(number: int, proposal: Proposal) -> Trial:
            value = toy_metric(proposal.architecture, space)
            if number % 11 == 7:
                return finished(problem, number, proposal, {}, State.FAILED, "out of memory")
            if number % 13 == 6:
                return finished(problem, number, proposal, {"accuracy": value / 2}, State.PRUNED)
            return finished(problem, number, proposal, {"accuracy": math.nan if number % 17 == 5 else value})

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

    def test_the_same_seed_proposes_the_same(self) -> None:
        """Proposals are a function of the seed and of the trials."""
        assert self.run(1) == self.run(1)

    def test_another_seed_proposes_others(self) -> None:
        """The proposals of several seeds are not all the same."""
        assert len({tuple(p.architecture.key for p in self.run(seed, budget=8)) for seed in range(4)}) > 1

    def test_it_resumes_at_every_step(self) -> None:
        """Stopped before any step and resumed from a stored state, the strategy makes the same proposals."""
        whole = self.run()
        assert len(whole) == self.trials
        for stop in range(self.trials // 3 + 1):
            assert self.run(stop=stop) == whole, f"resuming before step {stop} changed the proposals"

    def test_the_state_is_plain(self) -> None:
        """The state has dicts with string keys, lists, JSON scalars and tensors, which checkpoints can store."""
        space = self.space()
        problem = self.problem(space)
        strategy, evaluate = self.make(space, problem, 1), self.evaluation(space, problem)
        proposals = strategy.ask(9)
        strategy.tell([evaluate(number, proposal) for number, proposal in enumerate(proposals[:6])])
        require_plain(strategy.search_state(), "search_state()")

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """See `Strategy.checker`."""
        space = self.space()
        require_checker(type(self.make(space, self.problem(space), 1)))

    def test_the_order_of_completion_changes_nothing(self) -> None:
        """The proposals are the same in every order in which trials finish."""
        ordered = self.run(batch=2, ahead=8)
        assert all(self.run(batch=2, ahead=8, shuffle=shuffle) == ordered for shuffle in range(3))

    def test_every_proposal_is_of_the_space(self) -> None:
        """All values are valid, and in their normal form."""
        space = self.space()
        for proposal in self.run(space=space):
            assert space.validate(proposal.architecture) == proposal.architecture

    def test_no_proposal_violates_a_constraint_on_costs(self) -> None:
        """Costs are known before an evaluation, so that the strategy can meet constraints on them."""
        space = self.space()
        problem = self.problem(space)
        assert self.may_violate or all(problem.feasible(p.architecture) for p in self.run(space=space))

    def test_no_network_is_proposed_twice(self) -> None:
        """Networks with the same canonical architecture are proposed once."""
        space = self.space()
        keys = [space.canonical(p.architecture).key for p in self.run(space=space)]
        assert self.may_repeat or len(set(keys)) == len(keys)

    def test_asking_for_nothing_changes_nothing(self) -> None:
        """``ask(0)`` returns an empty list and does not change later proposals."""
        space = self.space()
        problem = self.problem(space)
        plain, other = self.make(space, problem, 1), self.make(space, problem, 1)
        for number in range(3):
            assert other.ask(0) == []
            proposals = plain.ask(3)
            assert other.ask(3) == proposals
            trials = [self.evaluation(space, problem)(3 * number + i, p) for i, p in enumerate(proposals)]
            plain.tell(trials)
            other.tell(trials)

    def test_it_learns_from_trials_it_never_asked_for(self) -> None:
        """Warm start: the strategy accepts trials it did not propose, before and between its own."""
        space = self.space()
        problem = self.problem(space)
        strategy, evaluate = self.make(space, problem, 1), self.evaluation(space, problem)
        foreign = [
            Proposal(Architecture({name: example_value(decision, i) for name, decision in space.decisions.items()}))
            for i in range(2)
        ]
        strategy.tell([evaluate(100 + i, proposal) for i, proposal in enumerate(foreign)])
        proposals = strategy.ask(3)
        strategy.tell([evaluate(200 + i, proposal) for i, proposal in enumerate(foreign)])
        strategy.tell([evaluate(i, proposal) for i, proposal in enumerate(proposals)])
        later = proposals + strategy.ask(3)
        assert later
        evaluated = {space.canonical(proposal.architecture) for proposal in foreign}
        assert self.may_repeat or not evaluated & {space.canonical(proposal.architecture) for proposal in later}

    def test_it_continues_when_all_trials_fail(self) -> None:
        """The strategy proposes candidates until the budget is used up."""
        space = self.space()
        problem = self.problem(space)
        strategy = self.make(space, problem, 1)
        services = SimulatedServices(
            lambda number, p: finished(problem, number, p, {}, State.FAILED, "always"),
            batch=3,
            ahead=3,
            budget=self.trials,
        )
        for _ in range(self.trials):
            if not strategy.done:
                strategy.step(services)
        assert len(services.submitted) == self.trials

    def test_it_ends_when_the_space_is_exhausted(self) -> None:
        """The strategy ends, and has proposed all feasible architectures of a tiny space."""
        space = self.small_space()
        problem = self.problem(space)
        strategy = self.make(space, problem, 1)
        services = SimulatedServices(
            lambda number, p: finished(problem, number, p, {"accuracy": toy_metric(p.architecture, space)}),
            batch=2,
            ahead=4,
            budget=None if self.ends else self.trials,
        )
        for _ in range(1000):
            if strategy.done:
                break
            strategy.step(services)
        assert strategy.done
        if self.exhaustive:
            proposed = {space.canonical(p.architecture) for p in services.submitted}
            architectures = {space.canonical(item) for item in enumerate_all(space.decisions)}
            assert proposed >= {item for item in architectures if problem.feasible(item)}

    def test_an_unsatisfiable_constraint_ends_the_search(self) -> None:
        """``ask`` raises InfeasibleError with the name of the cost, or returns no proposals."""
        space = self.space()
        strategy = self.make(space, self.problem(space, limit=-1), 1)
        try:
            proposals = strategy.ask(4)
        except InfeasibleError as error:
            assert "toy_cost" in str(error)
        else:
            assert self.may_violate or not proposals
