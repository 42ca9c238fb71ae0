"""Behaviour of the strategy beyond the contract: duplicates, resuming, warm start, fidelities, errors."""

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
from automl_nas_optuna.strategy.code_parameters import CodeParameters
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import SAMPLERS, Sampler

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None
THIRD_PARTY = "plugins.optuna.third_party_samplers:"


def events(strategy: OptunaStrategy, kind: str) -> list[list[Any]]:
    return [event for event in strategy.search_state()["events"] if event[0] == kind]


def test_one_candidate_is_drawn_when_the_sampler_repeats_itself() -> None:
    # The stride equals the number of options, so only two options of each decision are suggested: 16 networks in all.
    sampler = Sampler(f"{THIRD_PARTY}Cyclic", {"stride": 3})
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=sampler, attempts=7)
    proposals = search(strategy, 81, SPACE)
    assert len({proposal.architecture for proposal in proposals}) == 81
    origins = Counter(proposal.info["origin"] for proposal in proposals)
    assert origins["sampler"] <= 16
    assert origins["random"] >= 81 - 16
    assert strategy.ask(1) == []
    # Each random candidate was drawn after seven suggestions.
    assert len(events(strategy, "ask")) >= 7 * origins["random"]
    assert len(events(strategy, "add")) == origins["random"]


@pytest.mark.parametrize("draws", [1, 1000])
def test_candidates_drawn_instead_are_uniform(draws: int) -> None:
    # By rejection, and by enumeration of the space. Chi-square with 64 degrees of freedom exceeds 105 with a
    # probability of 0.001.
    taken = {item for item in enumerate_all(SPACE.decisions) if set(item.values()) <= {0, 1}}
    free = [item for item in enumerate_all(SPACE.decisions) if item not in taken]
    assert len(free) == 65
    sampler = FeasibleSampler(SPACE, PROBLEM, draws)
    counts = Counter(sampler.draw(stream(0, "test", n), taken) for n in range(2000))
    assert set(counts) == set(free)
    expected = 2000 / len(free)
    assert sum((counts[item] - expected) ** 2 / expected for item in free) < 105


def test_a_large_space_with_a_tight_limit() -> None:
    # 3^20 networks with costs from 0 to 40, of which only the cheapest is feasible.
    space = ToySpace(blocks=20, options=3)
    cost = {"toy_cost": ToyCost(space)}
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 0")], cost)
    strategy = OptunaStrategy(space, problem, seed=0, sampler="random", draws=20)
    (proposal,) = strategy.ask(1)
    assert set(proposal.architecture.values()) == {0}
    assert strategy.ask(1) == []
    impossible = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= -1")], cost)
    with pytest.raises(InfeasibleError, match=r"none of the 20 .* misses 'toy_cost <= -1' by 1 "):
        OptunaStrategy(space, impossible, seed=0, sampler="random", draws=20).ask(1)


def test_populations_receive_the_result_of_a_repeated_network_again() -> None:
    space = Mixed(widths=1)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("nsgaii", {"population_size": 4}), attempts=50)
    proposals = search(strategy, 100, space)
    keys = [space.canonical(proposal.architecture) for proposal in proposals]
    assert len(set(keys)) == len(keys) == len({space.canonical(item) for item in enumerate_all(space.decisions)})
    values: dict[str, set[float]] = {}
    parameters = CodeParameters(space)
    codes = [event for event in strategy.search_state()["events"] if event[0] != "tell"]
    for _, number, state, objectives, _, _ in events(strategy, "tell"):
        if state == "complete":
            key = space.canonical(parameters.architecture(codes[number][1])).key
            values.setdefault(key, set()).update(objectives)
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) > len(keys)
    assert all(len(of_network) == 1 for of_network in values.values())


WHOLE_SPACE = [
    name for name, traits in SAMPLERS.items() if not traits.population and name not in ("gp", "partial_fixed")
]


@pytest.mark.parametrize("name", WHOLE_SPACE)
def test_models_receive_each_result_once(name: str) -> None:
    strategy = OptunaStrategy(ToySpace(blocks=2, options=3), PROBLEM, seed=0, sampler=Sampler(name), attempts=3)
    assert len(search(strategy, 20, ToySpace(blocks=2, options=3))) == 9
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) == 9


def test_foreign_trials_become_parents() -> None:
    # Without mutation, and with one full generation of foreign trials, children consist of their options only.
    settings = {"population_size": 4, "mutation_prob": 0.0}
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler("nsgaii", settings), attempts=100)
    foreign = [Architecture({f"d{place}": value for place in range(4)}) for value in (0, 1, 0, 1)]
    foreign[2], foreign[3] = foreign[0].replace({"d0": 1}), foreign[1].replace({"d0": 0})
    strategy.tell([Trial(number, item, {"accuracy": 0.1 * number}) for number, item in enumerate(foreign)])
    for proposal in search(strategy, 4, SPACE):
        assert proposal.info["origin"] == "sampler"
        assert set(proposal.architecture.values()) <= {0, 1}


def test_a_trial_of_lower_fidelity_is_pruned_and_its_network_may_be_proposed() -> None:
    space = ToySpace(blocks=1, options=2)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler="random")
    strategy.tell([Trial(0, Architecture({"d0": 0}), {"accuracy": 0.25}, fidelity=4.0)])
    assert events(strategy, "tell") == [["tell", 0, "pruned", [], [], [[4, 0.25]]]]
    assert {proposal.architecture["d0"] for proposal in search(strategy, 2, space)} == {0, 1}


def test_trials_may_be_told_in_any_order() -> None:
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler="tpe")
    proposals = strategy.ask(5)
    trials = [Trial(number, item.architecture, {"accuracy": 0.1}) for number, item in enumerate(proposals)]
    strategy.tell([*reversed(trials)])
    assert [event[1] for event in events(strategy, "tell")] == [4, 3, 2, 1, 0]
    assert events(strategy, "add") == []


def test_subsets_of_forbidden_size_are_repaired_with_the_fewest_changes() -> None:
    space = DecisionSpace({"kind": Choice((1, 2)), "edges": Subset(tuple("abcdefgh"), min=2, max=3)})
    parameters = CodeParameters(space)
    for trial in range(200):
        rng = stream(0, "codes", trial)
        code = [rng.randrange(2) for _ in range(9)]
        repaired = parameters.repaired(code, rng)
        count = sum(code[1:])
        assert sum(repaired[1:]) == min(max(count, 2), 3)
        assert sum(a != b for a, b in zip(code, repaired, strict=True)) == abs(sum(repaired[1:]) - count)
        assert parameters.fits(repaired)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("tpe", {"n_startup_trials": 5}))
    search(strategy, 30, space)
    codes = [event[1] for event in strategy.search_state()["events"] if event[0] != "tell"]
    complete = [codes[event[1]] for event in events(strategy, "tell") if event[2] == "complete"]
    # The sampler receives the results of the repaired codes.
    assert len(complete) == 30
    assert all(parameters.fits(code) for code in complete)


def test_infeasible_suggestions_are_passed_back_and_not_evaluated() -> None:
    limit = parse_constraint("toy_cost", "<= 2")
    problem = Problem({"accuracy": "maximize"}, [limit], {"toy_cost": ToyCost(SPACE)})
    strategy = OptunaStrategy(SPACE, problem, seed=0, sampler="random", attempts=3)
    proposals = search(strategy, 15, SPACE)
    # Networks with a sum of 0, 1 or 2: 1 + 4 + 6 + 4.
    assert len(proposals) == 15
    assert strategy.ask(1) == []
    pruned = [event for event in events(strategy, "tell") if event[2] == "pruned"]
    assert pruned
    for event in pruned:
        ((name, violation),) = event[4]
        assert name == "toy_cost <= 2"
        assert violation > 0
    # One for each candidate; the others are discarded.
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
