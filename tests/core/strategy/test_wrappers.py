"""Wrappers: what reaches the inner strategy, and what is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.strategy.wrappers import Deduplicate, Filter, Retry
from automl_nas.testing.services import finished
from automl_nas.testing.toys import ToyCost, ToySpace


class Mirrored(ToySpace):
    """A pair and its mirror image are the same network."""

    def canonical(self, architecture: Architecture) -> Architecture:
        ordered = sorted(int(str(value)) for value in architecture.values())
        return Architecture(dict(zip(architecture, ordered, strict=True)))


SPACE = Mirrored(blocks=2, options=3)
PLAIN = Problem({"accuracy": "maximize"})


def net(first: int, second: int) -> Architecture:
    return Architecture({"d0": first, "d1": second})


class Script(AskTellStrategy):
    """Proposes the architectures of a list and records the trials that `tell` receives."""

    def __init__(self, *architectures: Architecture, fidelities: Sequence[float | None] = ()) -> None:
        padded = [*fidelities, *[None] * (len(architectures) - len(fidelities))]
        self.left = [Proposal(item, fidelity) for item, fidelity in zip(architectures, padded, strict=True)]
        self.received: list[Trial] = []

    def ask(self, n: int) -> list[Proposal]:
        proposals, self.left = self.left[:n], self.left[n:]
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        self.received += trials

    def search_state(self) -> dict[str, Any]:
        return {"left": len(self.left)}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self.left = self.left[len(self.left) - state["left"] :]


def done(number: int, proposal: Proposal, state: State = State.COMPLETE) -> Trial:
    return finished(PLAIN, number, proposal, {"accuracy": 0.5}, state)


def test_repeated_networks_are_answered_from_memory() -> None:
    inner = Script(net(0, 1), net(1, 0), net(2, 2), net(0, 1))
    search = Deduplicate(SPACE, PLAIN, strategy=inner)
    (first,) = search.ask(1)
    trial = done(0, first)
    search.tell([trial])
    # (1, 0) is (0, 1) mirrored: answered; (2, 2) is new.
    (second,) = search.ask(1)
    assert second.architecture == net(2, 2)
    assert inner.received == [trial, trial]
    search.tell([done(1, second)])
    assert search.ask(5) == []
    assert [trial.number for trial in inner.received] == [0, 0, 1, 0]


def test_repeated_outstanding_networks_are_answered_with_their_trial() -> None:
    inner = Script(net(0, 1), net(1, 0), net(2, 2))
    search = Deduplicate(SPACE, PLAIN, strategy=inner)
    first, second = search.ask(3)
    assert [first.architecture, second.architecture] == [net(0, 1), net(2, 2)]
    assert inner.received == []
    search.tell([done(0, first)])
    assert [trial.number for trial in inner.received] == [0, 0]


def test_another_fidelity_is_another_evaluation() -> None:
    search = Deduplicate(SPACE, PLAIN, strategy=Script(net(0, 1), net(0, 1), fidelities=[1.0, 2.0]))
    assert [proposal.fidelity for proposal in search.ask(2)] == [1.0, 2.0]


def test_a_strategy_that_only_repeats_itself_ends() -> None:
    inner = Script(*[net(0, 1)] * 100)
    search = Deduplicate(SPACE, PLAIN, strategy=inner, attempts=10)
    search.tell([done(0, proposal) for proposal in search.ask(1)])
    assert search.ask(1) == []
    # One real trial, ten answers from memory, then the end.
    assert len(inner.received) == 11


def test_memory_is_part_of_the_state() -> None:
    search = Deduplicate(SPACE, PLAIN, strategy=Script(net(0, 1), net(1, 0)))
    trial = done(0, search.ask(1)[0])
    search.tell([trial])
    inner = Script(net(0, 1), net(1, 0))
    other = Deduplicate(SPACE, PLAIN, strategy=inner)
    other.load_search_state(search.search_state())
    assert other.ask(1) == []
    assert inner.received == [trial]


LIMITED = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 2")], {"toy_cost": ToyCost(SPACE)})


def test_infeasible_candidates_are_pruned_without_evaluation() -> None:
    inner = Script(net(2, 1), net(1, 1), net(2, 2), net(0, 0))
    search = Filter(SPACE, LIMITED, strategy=inner)
    assert [proposal.architecture for proposal in search.ask(2)] == [net(1, 1), net(0, 0)]
    first, second = inner.received
    assert (first.number, first.architecture, first.state, first.feasible) == (-1, net(2, 1), State.PRUNED, False)
    assert (first.costs, first.violations, first.metrics) == ({"toy_cost": 3.0}, {"toy_cost <= 2": 0.5}, {})
    assert (second.number, second.violations) == (-2, {"toy_cost <= 2": 1.0})


def test_only_infeasible_candidates_raise_an_error_with_the_violation() -> None:
    search = Filter(SPACE, LIMITED, strategy=Script(*[net(2, 2), net(2, 1)] * 50), attempts=20)
    with pytest.raises(InfeasibleError, match=r"none of 20 candidates .* 'toy_cost <= 2' by 0\.5 times the limit"):
        search.ask(1)


def test_after_a_feasible_candidate_only_infeasible_ones_end_the_search() -> None:
    search = Filter(SPACE, LIMITED, strategy=Script(net(0, 0), *[net(2, 2)] * 50), attempts=20)
    assert len(search.ask(1)) == 1
    assert search.ask(1) == []


def test_a_failed_candidate_is_evaluated_again_before_new_ones() -> None:
    inner = Script(net(0, 0), net(1, 1), net(2, 2))
    search = Retry(SPACE, PLAIN, strategy=inner, times=2)
    first = search.ask(1)[0]
    search.tell([done(0, first, State.FAILED)])
    assert inner.received == []
    again, new = search.ask(2)
    assert (again.architecture, dict(again.info)) == (net(0, 0), {"retry": 1})
    assert new.architecture == net(1, 1)
    search.tell([done(1, again, State.FAILED), done(2, new)])
    assert [trial.number for trial in inner.received] == [2]
    (last,) = search.ask(1)
    assert last.info == {"retry": 2}
    search.tell([done(3, last, State.FAILED)])
    # After two retries the failure is passed on.
    assert [(trial.number, trial.state) for trial in inner.received] == [(2, State.COMPLETE), (3, State.FAILED)]
    assert search.ask(1)[0].architecture == net(2, 2)


def test_the_count_of_failures_is_part_of_the_state() -> None:
    search = Retry(SPACE, PLAIN, strategy=Script(net(0, 0)), times=1)
    search.tell([done(0, search.ask(1)[0], State.FAILED)])
    repeated: list[Proposal] = []
    for _ in range(2):
        # Once while the candidate waits to be repeated, once while it is outstanding.
        inner = Script(net(0, 0))
        other = Retry(SPACE, PLAIN, strategy=inner, times=1)
        other.load_search_state(search.search_state())
        search = other
        repeated = search.ask(1) or repeated
    assert [item.architecture for item in repeated] == [net(0, 0)]
    search.tell([done(1, repeated[0], State.FAILED)])
    assert [trial.number for trial in inner.received] == [1]


def test_pruned_trials_and_failures_from_elsewhere_are_passed_on() -> None:
    inner = Script(net(0, 0))
    search = Retry(SPACE, PLAIN, strategy=inner)
    proposal = search.ask(1)[0]
    search.tell([done(0, proposal, State.PRUNED), done(9, Proposal(net(1, 1)), State.FAILED)])
    assert [trial.number for trial in inner.received] == [0, 9]
    assert search.ask(1) == []


def test_bounds_are_checked() -> None:
    for wrapper, settings in ((Deduplicate, {"attempts": 0}), (Filter, {"attempts": 0}), (Retry, {"times": 0})):
        with pytest.raises(ConfigurationError, match="must be at least 1"):
            wrapper(SPACE, PLAIN, strategy=Script(), **settings)  # type: ignore[operator]
