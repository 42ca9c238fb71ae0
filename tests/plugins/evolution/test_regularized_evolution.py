"""Regularised evolution: the population, its tournaments, and that age alone kills."""

from __future__ import annotations

from collections import Counter, deque

from automl_nas.evaluation.evaluator import State
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing.services import finished
from automl_nas.testing.toys import ToySpace
from automl_nas_evolution.regularized_evolution import RegularizedEvolution

PROBLEM = Problem({"accuracy": "maximize"})
SPACE = ToySpace(blocks=20, options=4)


def parents(proposal: Proposal) -> list[int]:
    parents = proposal.info.get("parents", [])
    assert isinstance(parents, list)
    return parents


def test_the_oldest_dies_however_good_it_is() -> None:
    search = RegularizedEvolution(SPACE, PROBLEM, seed=0, population=5, sample_size=50)
    # The very first is best by far; a tournament of 50 out of 5 nearly surely (1 - 0.8**50 = 0.99999) meets it.
    alive: deque[Trial] = deque(maxlen=5)
    winners = []
    for number in range(12):
        (proposal,) = search.ask(1)
        if number >= 5:
            assert proposal.info["origin"] == "mutation"
            assert set(parents(proposal)) <= {trial.number for trial in alive}
            winners += parents(proposal)
        else:
            assert proposal.info["origin"] == "random"
        trial = finished(PROBLEM, number, proposal, {"accuracy": 100.0 if number == 0 else -float(number)})
        search.tell([trial])
        alive.append(trial)
    # Number 0 wins while it lives: once, since the sixth trial removes it. Then the oldest is the best each time.
    assert winners == [0, 1, 2, 3, 4, 5, 6]


def test_a_child_differs_from_its_parent_in_one_decision() -> None:
    search = RegularizedEvolution(SPACE, PROBLEM, seed=1, population=10, sample_size=3)
    trials: dict[int, Trial] = {}
    for number in range(60):
        (proposal,) = search.ask(1)
        for parent in parents(proposal):
            before = trials[parent].architecture
            assert sum(before[name] != value for name, value in proposal.architecture.items()) == 1
        trials[number] = finished(PROBLEM, number, proposal, {"accuracy": float(number % 7)})
        search.tell([trials[number]])


def test_tournaments_follow_their_distribution() -> None:
    # The best of S draws with replacement out of P has rank k (0 is best) with probability
    # ((P - k) / P)**S - ((P - k - 1) / P)**S.
    population, sample = 10, 3
    search = RegularizedEvolution(SPACE, PROBLEM, seed=2, population=population, sample_size=sample, duplicates=True)
    first = search.ask(population)
    search.tell([finished(PROBLEM, n, p, {"accuracy": -float(n)}) for n, p in enumerate(first)])
    draws = 2000
    # Asked for at once: no trial is received in between, so the population stays.
    wins = Counter(parents(proposal)[0] for proposal in search.ask(draws))
    chi2 = 0.0
    for rank in range(population):
        share = ((population - rank) / population) ** sample - ((population - rank - 1) / population) ** sample
        chi2 += (wins[rank] - draws * share) ** 2 / (draws * share)
    # 9 degrees of freedom: 27.9 is exceeded with probability 0.001; the seed is fixed.
    assert chi2 < 27.9


def test_the_population_waits_to_be_full_and_failures_do_not_join() -> None:
    search = RegularizedEvolution(SPACE, PROBLEM, seed=0, population=4, sample_size=2)
    first = search.ask(10)
    assert len(first) == 4
    states = [State.COMPLETE, State.FAILED, State.COMPLETE, State.PRUNED]
    search.tell([finished(PROBLEM, n, p, {"accuracy": 1.0}, states[n]) for n, p in enumerate(first)])
    more = search.ask(10)
    assert [proposal.info["origin"] for proposal in more] == ["random", "random"]
    search.tell([finished(PROBLEM, 4 + n, p, {"accuracy": 1.0}) for n, p in enumerate(more)])
    assert {parent for proposal in search.ask(30) for parent in parents(proposal)} == {0, 2, 4, 5}
