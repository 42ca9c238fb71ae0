"""Contract tests of ask-and-tell strategies: `AskTellContract`.

Derive a class whose name begins with ``Test`` and implement the abstract method::

    class TestMySearch(AskTellContract):
        def make(self, space, problem, seed):
            return MySearch(space, problem, seed=seed)
"""

from __future__ import annotations

import contextlib
import json

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Ordinal
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Proposal
from automl_nas.testing.ask_tell_proposals import AskTellProposals
from automl_nas.testing.ask_tell_repeats import AskTellRepeats
from automl_nas.testing.ask_tell_searches import LEARNING
from automl_nas.testing.contract import require
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.toys import ToyCost, toy_metric
from automl_nas.testing.values import example_value


class AskTellContract(AskTellRepeats, AskTellProposals):
    """The tests of an `AskTellStrategy`; the settings are those of `AskTellSearches`.

    The problem is to maximise ``accuracy`` (`toy_metric`) of a `ToySpace` with an upper limit of `ToyCost`.
    """

    def test_it_learns_from_trials_it_never_asked_for(self) -> None:
        """Warm start: the strategy accepts trials it did not propose, before and between its own.

        Way out: `tell` looks a trial up by its architecture, and does not require one of its own proposals.
        """
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
        require(later, "after foreign trials it proposes nothing")
        evaluated = {space.canonical(proposal.architecture) for proposal in foreign}
        again = evaluated & {space.canonical(proposal.architecture) for proposal in later}
        require(self.may_repeat or not again, "it proposes a network whose trial it received")

    def test_results_change_the_proposals(self) -> None:
        """With other metrics, and with the opposite direction of the objective, other architectures are proposed.

        Way out: read the trials in `tell`: `Problem.scores(trial)` is larger for better trials, whatever the direction.
        A strategy that does not learn, such as random search, sets ``learns = False`` in its contract class.
        """
        if not self.learns:
            return
        up, down, other = self._directed("maximize"), self._directed("minimize"), self._directed("maximize", -1.0)
        require(up != other, f"{len(up)} proposals do not depend on the metrics of the trials")
        require(up != down, f"{len(up)} proposals do not depend on the direction of the objective")

    def test_it_searches_in_the_direction_of_the_objective(self) -> None:
        """Later candidates of a search that maximises a metric are better than those of one that minimises it.

        Way out: a larger `Problem.scores(trial)` is better; check the sign where candidates are compared.
        """
        if not self.learns:
            return
        space = self.space()
        means = {}
        for direction in ("maximize", "minimize"):
            values = [
                toy_metric(Architecture(json.loads(key)), space)
                for seed in range(1, 4)
                for key in self._directed(direction, seed=seed)[max(self.trials, LEARNING) // 3 :]
            ]
            means[direction] = sum(values) / max(1, len(values))
        text = ", ".join(f"{mean:.4f} with {direction}" for direction, mean in means.items())
        require(means["maximize"] > means["minimize"], f"the mean of the metric is {text}")

    def test_it_searches_problems_of_every_kind(self) -> None:
        """It searches with one objective to minimise, with several objectives, with and without constraints.

        Way out: read names and directions from `Problem.objectives`, never write them in the code.
        """
        space = self.space()
        cost = {"toy_cost": ToyCost(space)}
        limit = [parse_constraint("toy_cost", f"<= {self.limit(space)}"), parse_constraint("regret", "<= 0.9")]
        problems = (
            Problem({"regret": "minimize"}, costs=cost),
            Problem({"regret": "minimize", "toy_cost": "minimize"}, costs=cost),
            Problem({"regret": "minimize", "profit": "maximize"}, limit, cost),
        )
        for problem in problems[: None if self.several_objectives else 1]:
            self._require_search(space, problem, f"the problem {problem.describe()}")

    def test_it_continues_when_no_trial_is_feasible(self) -> None:
        """When every trial violates a limit on a metric, it proposes candidates until the budget is used up.

        A constructor that raises ConfigurationError for limits on metrics keeps the clause.

        Way out: prefer the smallest violation (`Trial.violations`), or a random candidate, while none is feasible.
        """
        space = self.space()
        problem = Problem({"regret": "minimize"}, [parse_constraint("regret", "<= -1")], {"toy_cost": ToyCost(space)})
        with contextlib.suppress(ConfigurationError):
            self.make(space, problem, 1)
            self._require_search(space, problem, "a limit that no trial meets")

    def test_metrics_of_every_size_are_accepted(self) -> None:
        """It searches when all metrics are equal, when they are very large and when they are very small.

        Way out: divide by a spread only if it is not 0, and take exponents of differences to the best score.
        """
        space = self.space()
        problem = Problem({"profit": "maximize"}, costs={"toy_cost": ToyCost(space)})
        for what, scale in (
            ("equal metrics", lambda value: 0.25),
            ("metrics of 1e9", lambda value: value * 1e9),
            ("metrics of 1e-12", lambda value: value * 1e-12),
        ):
            self._require_search(space, problem, what, scale)

    def test_it_searches_decisions_of_every_kind(self) -> None:
        """It searches `Choice`, `Ordinal` and `Subset` of text, numbers and truth values, and a space of one decision.

        Way out: use `Decision.sample`, `neighbours`, `encode` and `decode` instead of the options themselves.
        """
        space = self.mixed_space()
        if space is not None:
            problem = Problem({"regret": "minimize"}, costs={"toy_cost": ToyCost(space)})
            self._require_search(space, problem, "decisions of every kind")
            space = DecisionSpace({"only": Ordinal(tuple(range(30)))})
            problem = Problem({"regret": "minimize"}, costs={"toy_cost": ToyCost(space)})
            self._require_search(space, problem, "a single decision")

    def test_it_continues_when_all_trials_fail(self) -> None:
        """The strategy proposes candidates until the budget is used up.

        Way out: `tell` accepts trials of every state; count only complete ones as results.
        """
        space = self.space()
        problem = self.problem(space)
        for state in (State.FAILED, State.PRUNED):
            strategy = self.make(space, problem, 1)
            services = SimulatedServices(
                lambda n, p, state=state: self.evaluated(problem, n, p, {}, state, "always"),  # type: ignore[misc]
                batch=3,
                ahead=3,
                budget=self.trials,
            )
            for _ in range(self.trials):
                if not strategy.done:
                    strategy.step(services)
            count = len(services.submitted)
            require(count == self.trials, f"when all trials are {state}, it makes {count} of {self.trials} proposals")

    def test_it_ends_when_the_space_is_exhausted(self) -> None:
        """The strategy ends, and has proposed all feasible architectures of a tiny space.

        Way out: return [] from `ask` when nothing is left. A strategy that repeats networks sets ``ends = False``, one
        that ends earlier ``exhaustive = False``.
        """
        space = self.small_space()
        problem = self.problem(space)
        strategy = self.make(space, problem, 1)
        services = SimulatedServices(
            lambda number, p: self.evaluated(problem, number, p, {"accuracy": toy_metric(p.architecture, space)}),
            batch=2,
            ahead=4,
            budget=None if self.ends else self.trials,
        )
        for _ in range(1000):
            if strategy.done:
                break
            strategy.step(services)
        require(strategy.done, "it does not end")
        if self.exhaustive:
            proposed = {space.canonical(p.architecture) for p in services.submitted}
            architectures = {space.canonical(item) for item in enumerate_all(space.decisions)}
            missing = {item for item in architectures if problem.feasible(item)} - proposed
            require(not missing, f"it ends, and {len(missing)} feasible architectures were not proposed")

    def test_an_unsatisfiable_constraint_ends_the_search(self) -> None:
        """``ask`` raises InfeasibleError with the name of the cost, or returns no proposals.

        Way out: bound the number of draws; `FeasibleSampler` raises the error.
        """
        space = self.space()
        strategy = self.make(space, self.problem(space, limit=-1), 1)
        try:
            proposals = strategy.ask(4)
        except InfeasibleError as error:
            require("toy_cost" in str(error), f"the error does not name the cost: {error}")
        else:
            require(self.may_violate or not proposals, "it proposes architectures that violate the constraint")
