"""Clauses of ask-and-tell strategies about single proposals: `AskTellProposals`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.trial import Proposal
from automl_nas.testing.ask_tell_searches import AskTellSearches
from automl_nas.testing.checkers import require_checker, require_names, require_phases, require_shortened
from automl_nas.testing.contract import require
from automl_nas.testing.handed import fingerprint, require_json
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.states import same, stored
from automl_nas.testing.values import example_value


class AskTellProposals(AskTellSearches):
    """Proposals are of the space, meet the constraints, and have the declared types."""

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """The checker has some of the constructor's parameters, with the same annotations; see `Strategy.checker`.

        Way out: name and annotate the parameters of the checker as those of the constructor, without defaults.
        """
        space = self.space()
        require_checker(type(self.make(space, self.problem(space), 1)))

    def test_the_class_describes_itself(self) -> None:
        """`shortened`, `phases`, `artifact_names` and `metric_names` return the declared types, with settings it has.

        Way out: name settings as the constructor does; shares of phases add up to 1; names are a frozenset.
        """
        space = self.space()
        kind = type(self.make(space, self.problem(space), 1))
        require_shortened(kind)
        require_phases(kind)
        require_names(kind.metric_names(None), "metric_names(None)")

    def test_the_expected_architecture_changes_nothing(self) -> None:
        """`expected` returns None or an architecture of the space, and leaves the strategy as it was.

        Way out: draw from `stream(seed, ...)` with the seed that `expected` receives.
        """
        space = self.space()
        strategy = self.make(space, self.problem(space), 1)
        before = stored(strategy.search_state())
        first = strategy.expected(3)
        require(first is None or space.validate(first) == first, f"expected(3) is {first}")
        require(strategy.expected(3) == first, "expected(3) returns another architecture the second time")
        require(same(stored(strategy.search_state()), before), "expected changed the state")

    def test_numbers_of_trials_may_begin_anywhere(self) -> None:
        """In a run with earlier stages, whose first trial has another number, it makes the same proposals.

        Way out: `tell` looks a trial up by its architecture; its number is not a position in a list.
        """
        space = self.space()
        problem = self.problem(space)
        evaluate = self.evaluation(space, problem)
        services = SimulatedServices(
            lambda number, p: replace(evaluate(number - 1000, p), number=number), batch=3, ahead=6, budget=self.trials
        )
        services.first = 1000
        strategy = self.make(space, problem, 1)
        for _ in range(10 * self.trials):
            if not strategy.done and services.remaining:
                strategy.step(services)
        # ``info`` may name trials, such as parents.
        proposed, alone = (
            [(proposal.architecture, proposal.fidelity) for proposal in proposals]
            for proposals in (services.submitted, self._whole())
        )
        require(proposed == alone[: len(proposed)], "with other numbers of trials it makes other proposals")

    def test_every_proposal_is_of_the_space(self) -> None:
        """All values are valid, and in their normal form.

        Way out: build architectures with `SearchSpace.validate`, `sample` or the operators of `automl_nas.space`.
        """
        space = self.space()
        for proposal in self._whole():
            valid = space.validate(proposal.architecture)
            require(valid == proposal.architecture, f"{proposal.architecture.key} is not in its normal form")
            require(list(valid) == list(proposal.architecture), "the decisions are not in the order of the space")

    def test_proposals_have_the_declared_types(self) -> None:
        """`ask` returns a list of Proposal with an Architecture, a fidelity (None or a number) and JSON ``info``.

        Way out: return `[Proposal(architecture)]`; convert NumPy's numbers with float() and int(), and keep ``info``
        below `info_limit` characters.
        """
        space = self.space()
        strategy = self.make(space, self.problem(space), 1)
        require(isinstance(strategy, AskTellStrategy), f"it is a {type(strategy).__name__}, not an AskTellStrategy")
        proposals = strategy.ask(3)
        require(type(proposals) is list, f"ask(3) returned a {type(proposals).__name__}, not a list")
        for proposal in [*proposals, *self._whole()]:
            require(type(proposal) is Proposal, f"a proposal is a {type(proposal).__name__}")
            require(isinstance(proposal.architecture, Architecture), "the architecture has another type")
            fidelity = proposal.fidelity
            number = type(fidelity) in (int, float) and math.isfinite(fidelity)  # type: ignore[arg-type]
            require(fidelity is None or number, f"the fidelity is {fidelity!r}")
            require(isinstance(proposal.info, Mapping), f"info is a {type(proposal.info).__name__}")
            require_json(proposal.info, "info", self.info_limit)

    def test_it_proposes_at_most_as_many_as_asked(self) -> None:
        """``ask(n)`` returns at most n proposals, for every n, and at least one of a new search.

        Way out: keep the other proposals for the next call, and in the state.
        """
        space = self.space()
        for count in (1, 2, 7, 20):
            proposals = self.make(space, self.problem(space), 1).ask(count)
            require(1 <= len(proposals) <= count, f"ask({count}) returned {len(proposals)} proposals")

    def test_the_planned_number_of_trials_is_kept(self) -> None:
        """`planned` is None or a whole number that is not smaller than the number of proposals made.

        Way out: return the number of proposals of the whole search, or leave the default None.
        """
        space = self.space()
        strategy = self.make(space, self.problem(space), 1)
        for _ in range(5):
            strategy.ask(3)
        planned = strategy.planned
        require(planned is None or (type(planned) is int and planned >= 1), f"planned is {planned!r}")
        require(planned is None or planned >= len(self._whole()), f"planned is {planned}, and it proposes more")

    def test_no_proposal_violates_a_constraint_on_costs(self) -> None:
        """Costs are known before an evaluation, so that the strategy can meet constraints on them.

        Way out: propose only architectures for which `Problem.feasible` is true, e.g. with `FeasibleSampler`.
        """
        space = self.space()
        problem = self.problem(space)
        feasible = all(problem.feasible(p.architecture) for p in self._whole())
        require(self.may_violate or feasible, "a proposal violates the constraint on toy_cost")

    def test_no_network_is_proposed_twice(self) -> None:
        """Networks with the same canonical architecture are proposed once.

        Way out: keep the set of `SearchSpace.canonical(architecture)` of all proposals and trials, and its state.
        """
        for space in (self.space(), _Moot(self.space())):
            proposals = self.run(1, space=space)
            keys = [
                (space.canonical(p.architecture).key, p.fidelity if self.several_fidelities else None)
                for p in proposals
            ]
            require(self.may_repeat or len(set(keys)) == len(keys), "a network was proposed twice")

    def test_asking_for_nothing_changes_nothing(self) -> None:
        """``ask(0)`` returns an empty list and does not change later proposals.

        Way out: return [] before drawing anything when n is 0.
        """
        space = self.space()
        problem = self.problem(space)
        plain, other = self.make(space, problem, 1), self.make(space, problem, 1)
        for number in range(3):
            require(other.ask(0) == [], "ask(0) returned proposals")
            proposals = plain.ask(3)
            require(other.ask(3) == proposals, "ask(0) changed the next proposals")
            trials = [self.evaluation(space, problem)(3 * number + i, p) for i, p in enumerate(proposals)]
            plain.tell(trials)
            other.tell(trials)

    def test_what_it_receives_is_not_changed(self) -> None:
        """Trials, proposals that were made, the problem and the space are the same after a search.

        Way out: copy before changing: `list(trials)`, `dict(trial.info)`, `replace(trial, ...)`; never
        `object.__setattr__`.
        """
        space = self.space()
        problem = self.problem(space)
        strategy, evaluate = self.make(space, problem, 1), self.evaluation(space, problem)
        before = fingerprint((space, problem))
        handed: list[tuple[Any, Any]] = []
        for start in range(0, min(self.trials, 30), 3):
            proposals = strategy.ask(3)
            trials = [evaluate(start + number, proposal) for number, proposal in enumerate(proposals)]
            handed += [(trials, fingerprint(trials)), (tuple(proposals), fingerprint(tuple(proposals)))]
            strategy.tell(trials)
        require(fingerprint((space, problem)) == before, "the space or the problem was changed")
        require(all(fingerprint(item) == first for item, first in handed), "trials or proposals were changed")


class _Moot(DecisionSpace):
    """A space whose last decision has no effect."""

    def __init__(self, inner: SearchSpace) -> None:
        super().__init__(inner.decisions)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with the first value of the last decision."""
        name = list(self.decisions)[-1]
        return Architecture({**architecture, name: example_value(self.decisions[name], 0)})
