"""What the strategy promises beyond the contract: duplicates, resuming, warm start, fidelities, errors."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import pytest
from plugins.optuna.spaces import Mixed, search

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Decision, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy import FeasibleSampler, Problem, Trial, parse_constraint
from automl_nas.streams import stream
from automl_nas.testing import ToyCost, ToySpace
from automl_nas_optuna.parameters import Parameters
from automl_nas_optuna.samplers import KNOWN, Sampler
from automl_nas_optuna.strategy import OptunaStrategy

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None
ODD = "plugins.optuna.odd_samplers:"


def events(strategy: OptunaStrategy, kind: str) -> list[list[Any]]:
    return [event for event in strategy.search_state()["events"] if event[0] == kind]


def test_a_sampler_that_repeats_itself_is_given_up_for_one_candidate() -> None:
    # Strides of the number of options: two numbers for each decision and no more, so 16 networks in all.
    sampler = Sampler(f"{ODD}Cyclic", {"stride": 3})
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=sampler, attempts=7)
    proposals = search(strategy, 81, SPACE)
    assert len({proposal.architecture for proposal in proposals}) == 81
    origins = Counter(proposal.info["origin"] for proposal in proposals)
    assert origins["sampler"] <= 16
    assert origins["random"] >= 81 - 16
    assert strategy.ask(1) == []
    # Each random candidate stands for seven suggestions.
    assert len(events(strategy, "ask")) >= 7 * origins["random"]
    assert len(events(strategy, "add")) == origins["random"]


@pytest.mark.parametrize("draws", [1, 1000])
def test_what_is_drawn_instead_is_uniform(draws: int) -> None:
    # By rejection, and by counting through the space. Chi-square with 64 degrees of freedom stays below 105 but for one
    # in a thousand.
    taken = {item for item in enumerate_all(SPACE.decisions) if set(item.values()) <= {0, 1}}
    free = [item for item in enumerate_all(SPACE.decisions) if item not in taken]
    assert len(free) == 65
    drawer = FeasibleSampler(SPACE, PROBLEM, draws)
    counts = Counter(drawer.draw(stream(0, "test", n), taken) for n in range(2000))
    assert set(counts) == set(free)
    expected = 2000 / len(free)
    assert sum((counts[item] - expected) ** 2 / expected for item in free) < 105


def test_a_large_space_with_a_tight_limit() -> None:
    # 3^20 networks; of costs from 0 to 40 none but the cheapest is feasible.
    space = ToySpace(blocks=20, options=3)
    cost = {"toy_cost": ToyCost(space)}
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 0")], cost)
    strategy = OptunaStrategy(space, problem, seed=0, sampler="random", draws=20)
    (proposal,) = strategy.ask(1)
    assert set(proposal.architecture.values()) == {0}
    assert strategy.ask(1) == []
    impossible = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= -1")], cost)
    with pytest.raises(InfeasibleError, match=r"none of the 20 .* misses 'toy_cost <= -1' by 1 of its"):
        OptunaStrategy(space, impossible, seed=0, sampler="random", draws=20).ask(1)


def test_equal_networks_are_one_and_populations_are_told_their_result_again() -> None:
    space = Mixed(widths=1)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("nsgaii", {"population_size": 4}), attempts=50)
    proposals = search(strategy, 100, space)
    keys = [space.canonical(proposal.architecture) for proposal in proposals]
    assert len(set(keys)) == len(keys) == len({space.canonical(item) for item in enumerate_all(space.decisions)})
    values: dict[str, set[float]] = {}
    parameters = Parameters(space)
    made = [event for event in strategy.search_state()["events"] if event[0] != "tell"]
    for _, number, ending, told, _, _ in events(strategy, "tell"):
        if ending == "complete":
            key = space.canonical(parameters.architecture(made[number][1])).key
            values.setdefault(key, set()).update(told)
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) > len(keys)
    assert all(len(found) == 1 for found in values.values())


@pytest.mark.parametrize("name", [name for name, traits in KNOWN.items() if not traits.population and name != "gp"])
def test_models_are_not_told_a_result_twice(name: str) -> None:
    strategy = OptunaStrategy(ToySpace(blocks=2, options=3), PROBLEM, seed=0, sampler=Sampler(name), attempts=3)
    assert len(search(strategy, 20, ToySpace(blocks=2, options=3))) == 9
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) == 9


def test_foreign_trials_become_parents() -> None:
    # Without mutation and with a whole generation of foreign trials, children are made of their options alone.
    settings = {"population_size": 4, "mutation_prob": 0.0}
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler("nsgaii", settings), attempts=100)
    foreign = [Architecture({f"d{place}": value for place in range(4)}) for value in (0, 1, 0, 1)]
    foreign[2], foreign[3] = foreign[0].replace({"d0": 1}), foreign[1].replace({"d0": 0})
    strategy.tell([Trial(number, item, {"accuracy": 0.1 * number}) for number, item in enumerate(foreign)])
    for proposal in search(strategy, 4, SPACE):
        assert proposal.info["origin"] == "sampler"
        assert set(proposal.architecture.values()) <= {0, 1}


def test_a_lower_fidelity_is_a_pruned_trial_and_claims_nothing() -> None:
    space = ToySpace(blocks=1, options=2)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler="random")
    strategy.tell([Trial(0, Architecture({"d0": 0}), {"accuracy": 0.25}, fidelity=4.0)])
    assert events(strategy, "tell") == [["tell", 0, "pruned", [], [], [[4, 0.25]]]]
    assert {proposal.architecture["d0"] for proposal in search(strategy, 2, space)} == {0, 1}


def test_an_own_trial_is_told_however_it_was_asked_for() -> None:
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler="tpe")
    proposals = strategy.ask(5)
    trials = [Trial(number, item.architecture, {"accuracy": 0.1}) for number, item in enumerate(proposals)]
    strategy.tell([*reversed(trials)])
    assert [event[1] for event in events(strategy, "tell")] == [4, 3, 2, 1, 0]
    assert events(strategy, "add") == []


def test_subsets_outside_their_limits_are_mended_as_little_as_possible() -> None:
    space = DecisionSpace({"kind": Choice((1, 2)), "edges": Subset(tuple("abcdefgh"), min=2, max=3)})
    parameters = Parameters(space)
    for trial in range(200):
        rng = stream(0, "codes", trial)
        code = [rng.randrange(2) for _ in range(9)]
        mended = parameters.mended(code, rng)
        count = sum(code[1:])
        assert sum(mended[1:]) == min(max(count, 2), 3)
        assert sum(a != b for a, b in zip(code, mended, strict=True)) == abs(sum(mended[1:]) - count)
        assert parameters.fits(mended)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("tpe", {"n_startup_trials": 5}))
    search(strategy, 30, space)
    made = [event[1] for event in strategy.search_state()["events"] if event[0] != "tell"]
    complete = [made[event[1]] for event in events(strategy, "tell") if event[2] == "complete"]
    # What the sampler learned from is what was evaluated.
    assert len(complete) == 30
    assert all(parameters.fits(code) for code in complete)


def test_infeasible_suggestions_are_told_with_what_they_miss_and_cost_nothing() -> None:
    limit = parse_constraint("toy_cost", "<= 2")
    problem = Problem({"accuracy": "maximize"}, [limit], {"toy_cost": ToyCost(SPACE)})
    strategy = OptunaStrategy(SPACE, problem, seed=0, sampler="random", attempts=3)
    proposals = search(strategy, 15, SPACE)
    # 0, 1 or 2 in all: 1 + 4 + 6 + 4 networks.
    assert len(proposals) == 15
    assert strategy.ask(1) == []
    pruned = [event for event in events(strategy, "tell") if event[2] == "pruned"]
    assert pruned
    for event in pruned:
        ((name, missed),) = event[4]
        assert name == "toy_cost <= 2"
        assert missed > 0
    # One for each candidate; the others count as never made.
    assert len(pruned) <= 16 < len(events(strategy, "ask")) - 15


def test_parameters_that_would_share_a_name_are_refused() -> None:
    class Clash(Mixed):
        @property
        def decisions(self) -> dict[str, Decision]:
            return {"edges": Subset(("a",)), 'edges["a"]': Choice((0, 1))}

    with pytest.raises(SpaceError, match="there is one already"):
        OptunaStrategy(Clash(), PROBLEM, seed=0)


def test_trials_of_another_space_are_refused() -> None:
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0)
    with pytest.raises(SpaceError, match="'other'"):
        strategy.tell([Trial(0, Architecture({"other": 1}), {"accuracy": 1.0})])


def test_a_failed_network_is_not_tried_again() -> None:
    space = ToySpace(blocks=1, options=2)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler="nsgaii")
    (first,) = strategy.ask(1)
    strategy.tell([Trial(0, first.architecture, state=State.FAILED)])
    (second,) = strategy.ask(1)
    assert second.architecture != first.architecture
    strategy.tell([Trial(1, second.architecture, {"accuracy": 1.0})])
    assert strategy.ask(1) == []
