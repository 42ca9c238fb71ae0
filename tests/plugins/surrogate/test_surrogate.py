"""The search guided by a model: the contract, what it learns from, what it never does."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.evaluator import State
from automl_nas.space import Architecture, Choice, Decision, DecisionSpace, Ordinal, SearchSpace, Subset
from automl_nas.space.operators import encode, sample
from automl_nas.strategy import FeasibleSampler
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing import AskTellContract, ToySpace
from automl_nas_surrogate import factor as factor_module, gaussian_process
from automl_nas_surrogate.factor import Factor, Whitened
from automl_nas_surrogate.features import Featurizer
from automl_nas_surrogate.fitness import Member, fitness, improved
from automl_nas_surrogate.gaussian_process import GaussianProcess, Pairs, kernel
from automl_nas_surrogate.remembered import Remembered
from automl_nas_surrogate.search import SurrogateSearch

PROBLEM = Problem({"accuracy": "maximize"})


class TestSurrogateContract(AskTellContract):
    search_length = 90

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> SurrogateSearch:
        return SurrogateSearch(space, problem, seed=seed)


MIXED = DecisionSpace(
    {
        "kind": Choice(("a", "b", "c")),
        "width": Ordinal((8, 16, 32, 64, 128)),
        "edges": Subset(("x", "y", "z")),
    }
)
"""One decision of each kind; 3 * 5 * 8 architectures."""


class Width(CostModel):
    metric: ClassVar[str] = "width"
    unit: ClassVar[str] = "channels"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": float(str(architecture["width"]))}


class Constant(CostModel):
    """Of all networks the same, added up in two orders."""

    metric: ClassVar[str] = "constant"
    unit: ClassVar[str] = ""

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": 0.3 if architecture["kind"] == "a" else 0.1 + 0.2}


class Broken(CostModel):
    """Half of the networks do not run."""

    metric: ClassVar[str] = "latency"
    unit: ClassVar[str] = "ms"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        width = float(str(architecture["width"]))
        return {"": width if width < 64 else math.inf}


def trial(number: int, architecture: Architecture, value: float, **changes: object) -> Trial:
    return Trial(number, architecture, {"accuracy": value}, **changes)  # type: ignore[arg-type]


def drive(search: SurrogateSearch, value: object, trials: int) -> list[Architecture]:
    met = []
    for number in range(trials):
        proposals = search.ask(1)
        if not proposals:
            break
        met.append(proposals[0].architecture)
        search.tell([trial(number, met[-1], value(met[-1]))])  # type: ignore[operator]
    return met


def test_distances_by_hand() -> None:
    space = MIXED
    problem = Problem({"accuracy": "maximize"}, (), {"width": Width(), "constant": Constant()})
    make = Featurizer(space, problem, FeasibleSampler(space, problem, 1), 0)
    one = Architecture({"kind": "a", "width": 8, "edges": ("x",)})
    other = Architecture({"kind": "b", "width": 32, "edges": ("x", "z")})
    apart, costs = make([one]).distances(make([one, other]))
    # One of kind and one of three edges differ, the width by half of the way; five numbers in all.
    np.testing.assert_allclose(apart, [[0, (1 + 1 + 0.5) / 5]])
    # Standardised over uniform draws: of 200 the deviation of widths is within 15 % of the exact one.
    exact = (24 / np.std([8, 16, 32, 64, 128])) ** 2
    assert costs[0, 0] == 0
    assert costs[0, 1] == pytest.approx(exact, rel=0.35)


@pytest.mark.parametrize(
    "decisions",
    [
        {f"d{place}": Choice((0, 1, 2, 3)) for place in range(7)},
        {"many": Choice(tuple(range(30))), "few": Choice(("a", "b"))},
        {"alike": Choice((1, True, 1.0)), "kind": Choice(("a", "b"))},
        {"width": Ordinal((8, 16, 64)), "edges": Subset(("x", "y", "z")), "kind": Choice(("a", "b"))},
    ],
    ids=["few options", "many options", "options equal in Python", "mixed"],
)
def test_distances_are_those_of_a_comparison_decision_by_decision(decisions: dict[str, Decision]) -> None:
    space = DecisionSpace(decisions)
    problem = Problem({"accuracy": "maximize"})
    make = Featurizer(space, problem, None, 0)
    rows = [sample(space.decisions, random.Random(seed)) for seed in range(12)]
    # The order of the names in an architecture may be another one.
    others = [Architecture(dict(reversed(row.items()))) for row in rows[:5]]
    distances, _ = make(rows).distances(make(others))
    width = sum(decision.width for decision in decisions.values())
    for place, row in enumerate(rows):
        for other_place, other in enumerate(others):
            expected = 0.0
            for name, decision in decisions.items():
                codes = zip(decision.encode(row[name]), decision.encode(other[name]), strict=True)
                ordered = isinstance(decision, Ordinal)
                expected += sum(abs(a - b) / (decision.size - 1) if ordered else float(a != b) for a, b in codes)
            assert distances[place, other_place] == pytest.approx(expected / width, abs=1e-15)


@pytest.mark.parametrize("with_costs", [True, False])
def test_remembered_distances_are_those_of_a_computation_from_nothing(with_costs: bool) -> None:
    problem = Problem({"accuracy": "maximize"}, (), {"width": Width()} if with_costs else {})
    make = Featurizer(MIXED, problem, FeasibleSampler(MIXED, problem, 1), 0)
    remembered, rng = Remembered(make), random.Random(0)
    known: list[Architecture] = []
    for step in range(40):
        known += [sample(MIXED.decisions, rng) for _ in range(rng.randrange(3))]
        if step % 4 == 3:  # some are forgotten, also the last
            known = [each for each in known if rng.random() < 0.7]
        features, decisions, costs = remembered(known)
        expected = make(known) if known else features
        np.testing.assert_array_equal(features.unordered, expected.unordered)
        np.testing.assert_array_equal(features.ordered, expected.ordered)
        np.testing.assert_array_equal(features.costs, expected.costs)
        decisions_expected, costs_expected = expected.distances(expected)
        np.testing.assert_array_equal(decisions, decisions_expected)
        assert (costs is None) == (costs_expected is None) == (not with_costs)
        if costs is not None and costs_expected is not None:
            np.testing.assert_array_equal(costs, costs_expected)


@pytest.mark.parametrize("with_costs", [True, False])
def test_a_factor_that_grows_is_the_cholesky_factor(with_costs: bool) -> None:
    problem = Problem({"accuracy": "maximize"}, (), {"width": Width()} if with_costs else {})
    make, rng = Featurizer(MIXED, problem, FeasibleSampler(MIXED, problem, 1), 0), random.Random(0)
    listed = make([sample(MIXED.decisions, rng) for _ in range(7)])
    growing, trials = Factor(), [sample(MIXED.decisions, rng)]
    recurring, rarely = Whitened(listed, recurring=True), Whitened(listed, recurring=True)
    for step in range(60):
        trials += [sample(MIXED.decisions, rng) for _ in range(rng.randrange(3))]
        trials += trials[: rng.randrange(2)]  # a network that was evaluated twice
        if step % 8 == 7:  # some are forgotten, and come back in another order
            trials = sorted((each for each in trials[1:] if rng.random() < 0.7), key=lambda each: each.key) or trials
        theta = (0.5, 0.1, -2.0) if step % 10 < 5 else (0.2, 0.3, -1.0)
        features = make(trials)
        own = Pairs(*features.distances(features))
        first = len(trials) - len(trials) % 4
        growing.update(list(trials), first, theta, own)
        covariances = kernel(own, theta) + (math.exp(theta[2]) + 1e-8) * np.eye(len(trials))
        lower = np.linalg.cholesky(covariances)
        # The noise bounds the condition number by a thousand, so rounding errors stay far below 1e-11.
        np.testing.assert_allclose(growing.lower, lower, atol=1e-11)
        expected = np.linalg.solve(lower, kernel(Pairs(*features.distances(listed)), theta))
        at_once = Whitened(listed, recurring=False).of(growing, features)
        # They are of single precision: 6e-8, times a condition number of the factor below 20.
        np.testing.assert_allclose(at_once, expected, atol=1e-5)
        np.testing.assert_allclose(recurring.of(growing, features), expected, atol=1e-5)
        # The rest is equal to the last bit, so that a search can be resumed.
        anew = Factor()
        anew.update(list(trials), first, theta, own)
        np.testing.assert_array_equal(growing.lower, anew.lower)
        whitened = Whitened(listed, recurring=True).of(growing, features)
        np.testing.assert_array_equal(recurring.of(growing, features), whitened)
        if rng.random() < 0.3:  # as the neighbours of a parent that comes back
            np.testing.assert_array_equal(rarely.of(growing, features), whitened)


def test_a_cost_without_a_value_is_as_bad_as_the_worst() -> None:
    problem = Problem({"accuracy": "maximize"}, (), {"latency": Broken()})
    make = Featurizer(MIXED, problem, FeasibleSampler(MIXED, problem, 1), 0)
    rows = [Architecture({"kind": "a", "width": width, "edges": ()}) for width in (32, 64, 128)]
    _, costs = make(rows).distances(make(rows))
    np.testing.assert_array_equal(costs, np.zeros((3, 3)))


def test_it_finds_the_best_of_a_large_space_long_before_chance() -> None:
    """4^20 networks, a sum over decisions with random effects: the optimum is known."""
    space = ToySpace(blocks=20, options=4)
    effects = np.random.default_rng(0).normal(size=(20, 4))

    def value(architecture: Architecture) -> float:
        return float(sum(row[code] for row, code in zip(effects, encode(architecture, space.decisions), strict=True)))

    best = max(map(value, drive(SurrogateSearch(space, PROBLEM, seed=0), value, 100)))
    rng = random.Random(0)
    chance = max(value(sample(space.decisions, rng)) for _ in range(10_000))
    assert best > chance
    # 60 changes of one decision lead from anywhere to the optimum; so few evaluations come near it.
    assert best > 0.9 * float(effects.max(axis=1).sum())


@pytest.mark.slow
def test_a_free_cost_that_tells_all_is_used() -> None:
    space = ToySpace(blocks=12, options=4)

    class Sum(CostModel):
        metric: ClassVar[str] = "sum"
        unit: ClassVar[str] = ""

        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": float(sum(encode(architecture, space.decisions)))}

    def value(architecture: Architecture) -> float:
        return -abs(sum(encode(architecture, space.decisions)) - 30.0)  # two in a thousand have a sum of 30

    problem, late = Problem({"accuracy": "maximize"}, (), {"sum": Sum()}), []
    for costs in (True, False):
        for seed in range(3):
            values = [value(a) for a in drive(SurrogateSearch(space, problem, seed=seed, costs=costs), value, 40)]
            late.append(values.index(0.0) if 0.0 in values else 40)
    # With the sum as a cost, a few points show where 30 lies; without it, 12 effects have to be learnt first.
    assert max(late[:3]) < min(late[3:])


def test_equal_networks_are_never_proposed_twice_and_the_end_is_clean() -> None:
    space = MIXED
    search = SurrogateSearch(space, PROBLEM, seed=0, patience=2)
    met = drive(search, lambda a: float(len(a["edges"])), 1000)
    assert len(met) == len(set(met)) == 3 * 5 * 8
    assert search.ask(5) == []


def test_only_feasible_candidates_are_proposed() -> None:
    space = MIXED
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("width", "<= 16")], {"width": Width()})
    met = drive(SurrogateSearch(space, problem, seed=0), lambda a: float(str(a["width"])), 1000)
    assert len(met) == 3 * 2 * 8


def test_waiting_for_results_it_proposes_different_ones() -> None:
    search = SurrogateSearch(ToySpace(blocks=20, options=4), PROBLEM, seed=0)
    drive(search, lambda a: float(sum(encode(a, ToySpace(blocks=20, options=4).decisions))), 20)
    proposals = search.ask(10)
    assert len({proposal.architecture for proposal in proposals}) == 10
    assert {proposal.info["origin"] for proposal in proposals} <= {"model", "uncertain"}


def test_what_failed_or_missed_a_limit_is_worse_than_all_else() -> None:
    space, rng = MIXED, random.Random(0)
    drawn = [space.sample(rng) for _ in range(5)]
    trials = [
        trial(0, drawn[0], 0.1),
        trial(1, drawn[1], 0.9, violations={"latency <= 1": 0.5}),
        trial(2, drawn[2], 0.9, violations={"latency <= 1": 0.2}),
        trial(3, drawn[3], 0.9, state=State.FAILED),
        trial(4, drawn[4], math.nan),
    ]
    values = fitness([Member.of(PROBLEM, item) for item in trials], rng)
    assert sorted(range(5), key=lambda place: values[place]) == [3, 4, 1, 2, 0]
    assert values[3] == values[4]


def test_a_stall_makes_it_look_where_it_knows_least() -> None:
    search = SurrogateSearch(ToySpace(blocks=20, options=4), PROBLEM, seed=0, patience=3, period=2)
    origins = []
    for number in range(24):
        (proposal,) = search.ask(1)
        origins.append(proposal.info["origin"])
        search.tell([trial(number, proposal.architecture, 1.0 if number == 0 else 0.0)])
    assert origins[:4] == ["random"] * 4
    assert origins[4:] == ["uncertain", "model"] * 10


def test_the_model_uses_the_highest_fidelity_with_enough_trials() -> None:
    """Four trials are enough (``initial``). Metrics of the fidelities are opposed: the proposal shows which is used."""
    space = ToySpace(blocks=12, options=3)

    def proposed(high: int, resumed: bool) -> Proposal:
        search, rng = SurrogateSearch(space, PROBLEM, seed=0, random=0, parents=1), random.Random(0)
        for number in range(30):
            item = space.sample(rng)
            value = float(sum(encode(item, space.decisions)))
            if number < 26:
                search.tell([trial(number, item, value, fidelity=1.0)])
            elif number < 26 + high:
                search.tell([trial(number, item, 99 - value, fidelity=9.0)])
        if resumed:
            state, search = search.search_state(), SurrogateSearch(space, PROBLEM, seed=0, random=0, parents=1)
            search.load_search_state(state)
        return search.ask(1)[0]

    low, still_low, changed = (proposed(high, False) for high in (0, 3, 4))
    assert low.architecture == still_low.architecture
    assert changed.architecture != low.architecture
    assert proposed(4, True) == changed
    # One trial of a higher fidelity, and none has enough: the next candidate is random.
    few = SurrogateSearch(space, PROBLEM, seed=0)
    few.tell([trial(0, space.sample(random.Random(0)), 0.5, fidelity=1.0)])
    few.tell([trial(1, space.sample(random.Random(1)), 0.5)])
    assert few.ask(1)[0].info["origin"] == "random"


def test_several_objectives_cover_the_front() -> None:
    """Two opposed sums: every network with one option per decision in {0, 3} and all between are on the front."""
    space = ToySpace(blocks=8, options=4)
    problem = Problem({"accuracy": "maximize", "price": "minimize"})
    search, points = SurrogateSearch(space, problem, seed=0), []
    for number in range(120):
        (proposal,) = search.ask(1)
        codes = encode(proposal.architecture, space.decisions)
        good, price = sum(code > 0 for code in codes), sum(code**2 for code in codes)
        points.append((good, -price))
        metrics = {"accuracy": float(good), "price": float(price)}
        search.tell([Trial(number, proposal.architecture, metrics)])
    # The front is exactly (k, k) for k = 0..8: each decision is 0, or 1 for one more. Uniform draws meet none of it:
    # of 120 the expected number is 120 / 2**8 = 0.5.
    met = {k for k in range(9) if (k, -k) in points}
    assert len(met) >= 6


def test_improvement_is_by_pareto_dominance() -> None:
    assert improved((1.0, 2.0), [(2.0, 1.0)])
    assert not improved((1.0, 1.0), [(1.0, 1.0)])
    assert improved((1.0,), [])


@pytest.mark.parametrize("setting", ["initial", "parents", "patience", "period", "memory", "neighbourhood"])
def test_a_setting_out_of_range(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} must be at least"):
        SurrogateSearch(MIXED, PROBLEM, seed=0, **{setting: 0})  # type: ignore[arg-type]


def test_more_trials_than_it_remembers() -> None:
    space = ToySpace(blocks=10, options=4)
    search = SurrogateSearch(space, PROBLEM, seed=0, memory=10)
    values: list[float] = []

    def value(architecture: Architecture) -> float:
        values.append(float(sum(encode(architecture, space.decisions))))
        return values[-1]

    drive(search, value, 40)
    assert max(values[20:]) > max(values[:10])


def test_the_model_keeps_the_best_and_the_latest() -> None:
    search, rng = SurrogateSearch(MIXED, PROBLEM, seed=0, memory=20), random.Random(0)
    values: list[float] = []
    earlier: list[int] = []
    changes = 0
    for count in range(1, 101):
        values.append(rng.random())
        order = sorted(range(count), key=lambda index: -values[index])
        kept = search._remembered(order)
        assert min(count, 20) <= len(kept) <= 22
        latest = [index for index in kept if index >= count - 10]
        assert latest == list(range(max(0, count - 10), count))
        assert {index for index in order[:10] if index < count - 12} <= set(kept)
        changes += kept[: len(earlier)] != earlier
        earlier = kept
    # 78 trials are forgotten by the end, two at once.
    assert changes <= 40


def test_its_matrices_are_computed_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On two threads a proposal takes several times as long, and the rounding depends on the number of cores."""
    seen: list[int] = []

    def noted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
            return function(*arguments, **keywords)

        return call

    for name in ("factor", "solved", "whiten"):
        monkeypatch.setattr(gaussian_process, name, noted(getattr(gaussian_process, name)))
    for module, name in ((factor_module, "factor"), (factor_module, "solved"), (factor_module, "whiten")):
        monkeypatch.setattr(module, name, noted(getattr(module, name)))
    monkeypatch.setattr(GaussianProcess, "predict", noted(GaussianProcess.predict))
    with threadpool_limits(2, user_api="blas"):
        search = SurrogateSearch(ToySpace(), Problem({"accuracy": "maximize"}), seed=0)
        for number in range(6):
            (proposal,) = search.ask(1)
            search.tell([Trial(number, proposal.architecture, {"accuracy": float(number)}, {})])
    assert seen
    assert set(seen) == {1}
