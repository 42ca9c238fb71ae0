"""The rules of SPOS's evolutionary search, one by one, and the optimum against brute force."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream_seed
from automl_nas.testing.services import finished
from automl_nas.testing.toys import ToyCost, ToySpace, toy_metric
from automl_nas_evolution.evolutionary import EvolutionarySearch


def limited(space: SearchSpace, text: str) -> Problem:
    return Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", text)], {"toy_cost": ToyCost(space)})


def rugged(architecture: Architecture) -> float:
    """A landscape without structure, in which the best stay far from each other."""
    return stream_seed(0, architecture.key) / 2**63


def complete(space: SearchSpace, problem: Problem, number: int, proposal: Proposal) -> Trial:
    return finished(problem, number, proposal, {"accuracy": toy_metric(proposal.architecture, space)})


def generations(
    search: EvolutionarySearch,
    space: SearchSpace,
    problem: Problem,
    count: int,
    metric: Callable[[Architecture, SearchSpace], float] = toy_metric,
) -> list[list[Trial]]:
    """Run generation after generation, asking for more than there is."""
    rounds: list[list[Trial]] = []
    number = 0
    for _ in range(count):
        proposals = search.ask(10_000)
        assert search.ask(1) == []
        trials = [
            finished(problem, number + place, proposal, {"accuracy": metric(proposal.architecture, space)})
            for place, proposal in enumerate(proposals)
        ]
        number += len(trials)
        # One by one, as with a window of one: nothing new may be proposed before all trials of the generation are
        # received.
        for place, trial in enumerate(trials):
            search.tell([trial])
            if place < len(trials) - 1:
                assert search.ask(1) == []
        rounds.append(trials)
    return rounds


@pytest.fixture(scope="module")
def history() -> tuple[Problem, list[list[Trial]]]:
    space = ToySpace(blocks=20, options=4)
    problem = limited(space, "<= 30")
    return problem, generations(
        EvolutionarySearch(space, problem, seed=3), space, problem, 20, lambda item, _: rugged(item)
    )


def test_twenty_generations_of_fifty(history: tuple[Problem, list[list[Trial]]]) -> None:
    assert [len(trials) for trials in history[1]] == [50] * 20


def test_it_ends_after_its_generations() -> None:
    space = ToySpace(blocks=20, options=4)
    problem = limited(space, "<= 30")
    search = EvolutionarySearch(space, problem, seed=3, population=4, generations=3)
    assert [len(trials) for trials in generations(search, space, problem, 4)] == [4, 4, 4, 0]


def test_each_later_generation_is_25_mutations_and_25_crossovers(history: tuple[Problem, list[list[Trial]]]) -> None:
    origins = [Counter(trial.info["origin"] for trial in trials) for trials in history[1]]
    assert origins[0] == {"random": 50}
    # Of 250 tries for 25 children half are rejected for their cost, one in ten as a duplicate: there is ample room.
    assert all(origin == {"mutation": 25, "crossover": 25} for origin in origins[1:])


def test_parents_are_the_ten_best_of_all_evaluated(history: tuple[Problem, list[list[Trial]]]) -> None:
    problem, rounds = history
    evaluated: list[Trial] = []
    older = 0
    for generation, trials in enumerate(rounds):
        if generation:
            best = {trial.number for trial in problem.rank(evaluated)[:10]}
            parents = {number for trial in trials for number in trial.info["parents"]}  # type: ignore[attr-defined]
            assert parents <= best
            # 25 + 50 draws of 10: each is missed with probability 0.9**75 = 4e-4, so nearly all are met.
            assert len(parents) >= 9
            older += any(number < 50 * (generation - 1) for number in parents)
        evaluated += trials
    # "All" and "the last generation" differ only if an older one was among the best at least once.
    assert older


def test_children_come_from_their_parents(history: tuple[Problem, list[list[Trial]]]) -> None:
    everything = {trial.number: trial for trials in history[1] for trial in trials}
    changed = []
    for trial in everything.values():
        parents = [everything[number].architecture for number in trial.info.get("parents", [])]  # type: ignore[attr-defined]
        if trial.info["origin"] == "crossover":
            assert all(value in {parent[name] for parent in parents} for name, value in trial.architecture.items())
        elif trial.info["origin"] == "mutation":
            changed.append(sum(parents[0][name] != value for name, value in trial.architecture.items()))
    # 20 genes, redrawn with probability 0.1, differ after 3 of 4 redraws: 1.5 changes on average, 1.9 if there is at
    # least
    # one. Rejection (duplicates, constraint) shifts that a little; 475 children have a standard error of 0.04.
    assert min(changed) >= 1
    assert 1.5 < sum(changed) / len(changed) < 2.2


def test_neither_duplicates_nor_infeasible_children(history: tuple[Problem, list[list[Trial]]]) -> None:
    _, rounds = history
    architectures = [trial.architecture for trials in rounds for trial in trials]
    assert len(set(architectures)) == len(architectures) == 1000
    assert all(sum(int(str(value)) for value in item.values()) <= 30 for item in architectures)


@pytest.mark.parametrize("limit", [3, 7])
def test_it_reaches_the_optimum_that_brute_force_finds(limit: int) -> None:
    space = ToySpace(blocks=6, options=3)
    problem = limited(space, f"<= {limit}")
    best = max(toy_metric(item, space) for item in enumerate_all(space.decisions) if problem.feasible(item))
    search = EvolutionarySearch(space, problem, seed=0, population=20)
    trials = [trial for trials in generations(search, space, problem, 10) for trial in trials]
    # Of 729 networks at most 200 are evaluated, and the optimum is one of them.
    assert len(trials) <= 200
    assert max(trial.metrics["accuracy"] for trial in trials) == best


def test_shortfall_is_filled_at_random() -> None:
    space = ToySpace(blocks=20, options=4)
    problem = limited(space, "<= 30")
    # Without any mutation every child equals a known network.
    search = EvolutionarySearch(space, problem, seed=0, crossovers=0, mutation_probability=0.0)
    second = generations(search, space, problem, 2)[1]
    assert Counter(trial.info["origin"] for trial in second) == {"random": 50}


def test_a_tight_constraint_is_met_although_drawing_never_does() -> None:
    space = ToySpace(blocks=12, options=4)
    # 13 of 4**12 networks cost at most 1; a uniform draw meets that once in a million.
    problem = limited(space, "<= 1")
    search = EvolutionarySearch(space, problem, seed=0, attempts=50)
    first, second = generations(search, space, problem, 2)
    assert {sum(int(str(value)) for value in trial.architecture.values()) for trial in first} == {0, 1}
    assert len(first) == 13
    assert second == []


def test_an_impossible_constraint_says_by_how_much_it_is_missed() -> None:
    space = ToySpace(blocks=20, options=4)
    shifted = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", ">= 80")], {"toy_cost": ToyCost(space)})
    with pytest.raises(InfeasibleError, match=r"'toy_cost >= 80' by 0\.25 times the limit"):
        EvolutionarySearch(space, shifted, seed=0, attempts=50).ask(1)


def test_a_warm_start_gives_the_parents() -> None:
    space = ToySpace(blocks=20, options=4)
    problem = limited(space, "<= 60")
    search = EvolutionarySearch(space, problem, seed=0)
    first = search.ask(50)
    trials = [
        Trial(1000 + place, proposal.architecture.replace({"d0": 0, "d1": 3}), {"accuracy": 2.0})
        for place, proposal in enumerate(first)
    ]
    search.tell([complete(space, problem, place, proposal) for place, proposal in enumerate(first)])
    search.tell(trials)
    children = search.ask(50)
    assert {number >= 1000 for child in children for number in child.info["parents"]} == {True}  # type: ignore[attr-defined]


def test_a_foreign_trial_of_a_pending_candidate_is_not_evaluated_again() -> None:
    space = ToySpace(blocks=8, options=4)
    problem = limited(space, "<= 20")
    whole = EvolutionarySearch(space, problem, seed=0, population=10).ask(10)
    search = EvolutionarySearch(space, problem, seed=0, population=10)
    assert search.ask(4) == whole[:4]
    search.tell([complete(space, problem, 77, whole[6])])
    assert search.ask(10) == [*whole[4:6], *whole[7:]]


def test_failed_and_pruned_candidates_become_no_parents() -> None:
    space = ToySpace(blocks=8, options=4)
    problem = limited(space, "<= 20")
    search = EvolutionarySearch(space, problem, seed=0, population=10)
    first = search.ask(10)
    states = [State.COMPLETE, State.FAILED, State.PRUNED]
    search.tell([finished(problem, n, p, {"accuracy": float(n % 3)}, states[n % 3]) for n, p in enumerate(first)])
    parents = {number for p in search.ask(10) for number in p.info.get("parents", [])}  # type: ignore[attr-defined]
    assert parents
    assert all(number % 3 == 0 for number in parents)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"population": 0}, "population"),
        ({"generations": 0}, "generations"),
        ({"top_k": 0}, "top_k"),
        ({"mutations": -1}, "mutations"),
        ({"mutations": 30, "crossovers": 30}, "mutations"),
        ({"mutation_probability": 1.5}, "mutation_probability"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, int], path: str) -> None:
    space = ToySpace()
    with pytest.raises(ConfigurationError) as caught:
        EvolutionarySearch(space, Problem({"accuracy": "maximize"}), seed=0, **settings)  # type: ignore[arg-type]
    assert caught.value.path == path
