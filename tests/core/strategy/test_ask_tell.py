"""The ordered window of `AskTellStrategy`: which trials `tell` receives, when, and how many `ask` is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from automl_nas.errors import PluginError
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.ask_tell import AskTellStrategy, Preparation
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing.services import SimulatedServices, finished

PROBLEM = Problem({"accuracy": "maximize"})


class Counter(AskTellStrategy):
    """Proposes 0, 1, 2, ... up to a limit and logs its calls; no call to super().__init__()."""

    def __init__(self, limit: int) -> None:
        self.limit, self.next = limit, 0
        self.calls: list[tuple[str, list[int]]] = []

    def ask(self, n: int) -> list[Proposal]:
        new = list(range(self.next, min(self.limit, self.next + n)))
        self.next += len(new)
        self.calls.append(("ask", [n]))
        return [Proposal(Architecture({"d": number})) for number in new]

    def tell(self, trials: Sequence[Trial]) -> None:
        self.calls.append(("tell", [trial.number for trial in trials]))

    def search_state(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self.next = state["next"]


def services(batch: int, ahead: int, budget: int | None = None, shuffle: int | None = None) -> SimulatedServices:
    return SimulatedServices(
        lambda number, p: finished(PROBLEM, number, p, {"accuracy": 0.0}),
        batch=batch,
        ahead=ahead,
        budget=budget,
        shuffle=shuffle,
    )


def run(strategy: AskTellStrategy, simulated: SimulatedServices) -> int:
    steps = 0
    while not strategy.done:
        strategy.step(simulated)
        steps += 1
        assert steps < 1000
    return steps


def test_the_window_by_hand() -> None:
    strategy = Counter(limit=7)
    run(strategy, services(batch=2, ahead=5))
    assert strategy.calls == [
        ("ask", [5]),
        ("tell", [0, 1]),
        ("ask", [2]),
        ("tell", [2, 3]),
        ("ask", [2]),
        ("tell", [4, 5]),
        ("ask", [4]),
        ("tell", [6]),
        ("ask", [5]),
    ]


@given(st.integers(1, 5), st.integers(0, 6), st.integers(0, 30), st.none() | st.integers(0, 40), st.integers(0, 99))
def test_tell_receives_every_trial_once_and_in_order_whichever_finishes_first(
    batch: int, more: int, limit: int, budget: int | None, shuffle: int
) -> None:
    strategy, ordered = Counter(limit), Counter(limit)
    shuffled = services(batch, batch + more, budget, shuffle)
    run(strategy, shuffled)
    run(ordered, services(batch, batch + more, budget))
    batches = [numbers for event, numbers in strategy.calls if event == "tell"]
    expected = limit if budget is None else min(limit, budget)
    assert [number for numbers in batches for number in numbers] == list(range(expected))
    assert all(len(numbers) == batch for numbers in batches[:-1])
    assert strategy.calls == ordered.calls
    # Never more than `ahead` are outstanding, and never fewer while the strategy proposes any.
    assert len(shuffled.submitted) == expected


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 12))
def test_a_resumed_window_continues_with_the_same_trials(batch: int, more: int, stop: int) -> None:
    whole = Counter(limit=20)
    run(whole, services(batch, batch + more))
    first, later = Counter(limit=20), Counter(limit=20)
    shared = services(batch, batch + more)
    for _ in range(stop):
        if not first.done:
            first.step(shared)
    later.load_state_dict(first.state_dict())
    later.calls = first.calls
    run(later, shared)
    assert later.calls == whole.calls
    assert later.state_dict() == whole.state_dict()


class Waiting(Counter):
    """Proposes generations of three: the next one only after `tell` has received all three."""

    outstanding = 0

    def ask(self, n: int) -> list[Proposal]:
        room = 3 - self.next % 3 if self.next % 3 or not self.outstanding else 0
        proposals = super().ask(min(n, room))
        self.outstanding += len(proposals)
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self.outstanding -= len(trials)


def test_fewer_than_asked_for_means_wait_and_none_at_all_means_done() -> None:
    strategy = Waiting(limit=8)
    run(strategy, services(batch=1, ahead=4))
    batches = [numbers for event, numbers in strategy.calls if event == "tell"]
    assert batches == [[number] for number in range(8)]
    assert strategy.done


def test_a_spent_budget_ends_the_search() -> None:
    strategy = Counter(limit=100)
    shared = services(batch=2, ahead=4, budget=5)
    run(strategy, shared)
    assert len(shared.submitted) == 5
    assert [n for event, n in strategy.calls if event == "tell"] == [[0, 1], [2, 3], [4]]


class Greedy(Counter):
    def ask(self, n: int) -> list[Proposal]:
        return super().ask(n + 1)


def test_too_many_proposals_raise_an_error() -> None:
    with pytest.raises(PluginError, match=r"Greedy\.ask\(2\) returned 3 proposals"):
        Greedy(limit=9).step(services(batch=1, ahead=2))


class Prepared(Counter):
    """Prepares three parts before its first proposal."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.parts = 0

    def prepare(self) -> Preparation | None:
        self.parts += 1
        self.calls.append(("prepare", [self.parts]))
        return Preparation(self.parts, 3, "parts") if self.parts < 3 else None


def test_each_part_of_the_preparation_is_a_step_with_progress() -> None:
    strategy, simulated = Prepared(limit=4), services(batch=1, ahead=2)
    for part in (1, 2):
        strategy.step(simulated)
        assert strategy.calls == [("prepare", [number]) for number in range(1, part + 1)]
        assert not strategy.done
        assert strategy.state_dict() == {"waiting": [], "exhausted": False, "search": {"next": 0}}
    strategy.step(simulated)
    assert strategy.calls[2:5] == [("prepare", [3]), ("ask", [2]), ("tell", [0])]
    assert simulated.progressed == [(1, 3, "parts"), (2, 3, "parts")]
    run(strategy, simulated)
    assert [numbers for name, numbers in strategy.calls if name == "tell"] == [[0], [1], [2], [3]]
