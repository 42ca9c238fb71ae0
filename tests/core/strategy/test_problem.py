"""Constraints, dominance and Pareto fronts: against their definitions."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from hypothesis import given, strategies as st

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.feasible_sampler import FeasibleSampler
from automl_nas.strategy.problem import Constraint, Problem, parse_constraint
from automl_nas.strategy.trial import Trial
from automl_nas.testing.toys import ToyCost, ToySpace

ANY = Architecture({"d": 0})
SUFFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
spaces = st.sampled_from(["", " ", "  "])
numbers = st.floats(0, 1e6, allow_nan=False).map(lambda value: float(repr(value)))


@given(st.sampled_from(["<=", ">="]), numbers, st.sampled_from(list(SUFFIXES)), spaces, spaces)
def test_a_bound_means_its_number_times_its_suffix(sign: str, number: float, suffix: str, a: str, b: str) -> None:
    constraint = parse_constraint("flops", f"{a}{sign}{b}{number!r}{suffix}{a}")
    value = number * SUFFIXES[suffix]
    assert (constraint.low, constraint.high) == ((-math.inf, value) if sign == "<=" else (value, math.inf))


@given(numbers, numbers, st.sampled_from(list(SUFFIXES)), spaces)
def test_a_range_means_both_bounds(first: float, second: float, suffix: str, blank: str) -> None:
    low, high = sorted((first, second))
    constraint = parse_constraint("flops", f"{low!r}{suffix}{blank}..{blank}{high!r}{suffix}")
    assert (constraint.low, constraint.high) == (low * SUFFIXES[suffix], high * SUFFIXES[suffix])


def test_examples_of_the_documentation() -> None:
    assert parse_constraint("flops", "<= 330M").high == 330e6
    assert parse_constraint("flops", ">= 2M").low == 2e6
    between = parse_constraint("flops", "280M..330M")
    assert (between.low, between.high) == (280e6, 330e6)
    assert parse_constraint("flops", "<= 0.5 * largest", lambda: (10.0, 40.0)).high == 20
    assert parse_constraint("flops", ">= 2 * smallest", lambda: (10.0, 40.0)).low == 20


@pytest.mark.parametrize(
    "text",
    ["", "330M", "< 330M", "<= 330 MB", "<= ", "<= M", "<= 1..2", "1..", "5..3", "<= 0.5 * biggest", "== 3", "<= 1,5"],
)
def test_malformed_constraints_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_constraint("flops", text, lambda: (0.0, 1.0))
    assert caught.value.path == "problem.constraints.flops"
    assert text in str(caught.value)


@pytest.mark.parametrize("value", [330, True, None, 3.5])
def test_a_constraint_must_be_a_string(value: object) -> None:
    with pytest.raises(ConfigurationError, match="must be a string such as"):
        parse_constraint("flops", value)  # type: ignore[arg-type]


def test_a_measured_metric_has_no_extremes() -> None:
    with pytest.raises(ConfigurationError, match="measured"):
        parse_constraint("accuracy", ">= 0.5 * largest")


@given(st.text("0123456789.<>=*kMGTe+- largestm", max_size=14))
def test_any_string_is_parsed_or_refused(text: str) -> None:
    try:
        constraint = parse_constraint("flops", text, lambda: (1.0, 2.0))
    except ConfigurationError:
        return
    assert constraint.low <= constraint.high


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_violation_is_positive_exactly_outside(first: float, second: float, value: float) -> None:
    low, high = sorted((first, second))
    assert (Constraint("m", low, high, "").violation(value) <= 0) == (low <= value <= high)


def test_violations_are_relative_to_the_limit() -> None:
    assert parse_constraint("m", "<= 200").violation(250) == 0.25
    assert parse_constraint("m", ">= 200").violation(150) == 0.25
    assert parse_constraint("m", "<= 0").violation(3) == 3
    assert parse_constraint("m", "<= 200").violation(math.nan) == math.inf


values = st.sampled_from([0.0, 0.5, 1.0, 2.0, math.nan])
trials = st.lists(
    st.tuples(
        values,
        values,
        st.sampled_from([-1.0, 0.0, 0.5]),
        st.sampled_from(list(State)),
        st.sampled_from([None, 1.0, 3.0]),
    ),
    max_size=12,
)
Drawn = list[tuple[float, float, float, State, float | None]]
TWO = Problem({"accuracy": "maximize", "flops": "minimize"})


def trials_of(drawn: Drawn) -> list[Trial]:
    return [
        Trial(n, ANY, {"accuracy": a}, {"flops": f}, {"c": missed}, state=state, fidelity=fidelity)
        for n, (a, f, missed, state, fidelity) in enumerate(drawn)
    ]


def worth(trial: Trial) -> tuple[float, float]:
    accuracy, flops = trial.metrics["accuracy"], trial.costs["flops"]
    return (-math.inf if math.isnan(accuracy) else accuracy, math.inf if math.isnan(flops) else flops)


def better(first: Trial, second: Trial) -> bool:
    (a, f), (b, g) = worth(first), worth(second)
    return a >= b and f <= g and (a > b or f < g)


@given(trials)
def test_dominance_equals_its_definition(drawn: Drawn) -> None:
    for first in trials_of(drawn):
        for second in trials_of(drawn):
            ok, also = first.violations["c"] <= 0, second.violations["c"] <= 0
            assert TWO.dominates(first, second) == (better(first, second) if ok == also else ok)


@given(trials)
def test_the_pareto_set_contains_exactly_the_nondominated_trials(drawn: Drawn) -> None:
    all_trials = trials_of(drawn)
    usable = [t for t in all_trials if t.state is State.COMPLETE and t.violations["c"] <= 0]
    fidelities = [math.inf if t.fidelity is None else t.fidelity for t in usable]
    usable = [t for t, fidelity in zip(usable, fidelities, strict=True) if fidelity == max(fidelities)]
    front = [t for t in usable if not any(better(other, t) for other in usable)]
    firsts: dict[tuple[float, float], int] = {}
    for trial in front:
        firsts.setdefault(worth(trial), trial.number)
    pareto = TWO.pareto(all_trials)
    assert {t.number for t in pareto} == set(firsts.values())
    assert [-worth(t)[0] for t in pareto] == sorted(-worth(t)[0] for t in pareto)
    # The best is the first of the rank, and always one of the Pareto set.
    best = TWO.best(all_trials)
    assert (best is None) == (not usable)
    if best is not None:
        assert best in pareto
        assert best == min(usable, key=lambda t: (-worth(t)[0], worth(t)[1], t.number))


class Counted(CostModel):
    metric: ClassVar[str] = "count"
    unit: ClassVar[str] = "calls"
    calls = 0

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        self.calls += 1
        return {"a": 1.0, "b": 2.0}


def test_a_cost_is_estimated_once() -> None:
    model = Counted()
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("count", "<= 2")], {"count": model})
    assert not problem.feasible(ANY)
    assert problem.violations(ANY) == {"count <= 2": 0.5}
    assert problem.costs(ANY) == {"count": 3.0}
    assert model.calls == 1


def test_constraints_on_metrics_need_metrics() -> None:
    space = ToySpace()
    problem = Problem(
        {"accuracy": "maximize"},
        [parse_constraint("toy_cost", "<= 3"), parse_constraint("latency", "<= 10")],
        {"toy_cost": ToyCost(space)},
    )
    item = Architecture({"d0": 1, "d1": 0, "d2": 2, "d3": 0})
    assert problem.feasible(item)
    assert problem.violations(item) == {"toy_cost <= 3": 0.0}
    assert problem.violations(item, {"latency": 15.0}) == {"toy_cost <= 3": 0.0, "latency <= 10": 0.5}
    assert problem.violations(item, {})["latency <= 10"] == math.inf


def test_a_problem_needs_an_objective() -> None:
    with pytest.raises(ConfigurationError, match="objective"):
        Problem({})


def test_a_problem_describes_itself_as_plain_data() -> None:
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("flops", "<= 3M")])
    assert problem.describe() == {"objectives": {"accuracy": "maximize"}, "constraints": {"flops": "<= 3M"}}


def test_the_expected_cost_is_the_mean_over_drawn_architectures() -> None:
    """By brute force over all 27 architectures, with its gradient: the cost of each option."""
    space = ToySpace(blocks=3, options=3)
    problem = Problem({"toy_cost": "minimize"}, costs={"toy_cost": TabulatedCost(ToyCost(space), space)})
    weights = {name: torch.tensor([0.2, 0.5, 0.3], requires_grad=True) for name in space.decisions}
    expected = problem.expected_cost("toy_cost", weights)
    mean = 0.0
    for architecture in enumerate_all(space.decisions):
        probability = math.prod([0.2, 0.5, 0.3][int(str(value))] for value in architecture.values())
        mean += probability * problem.costs(architecture)["toy_cost"]
    assert expected.item() == pytest.approx(mean, abs=1e-6)  # float32
    expected.backward()  # type: ignore[no-untyped-call]
    assert [tensor.grad.tolist() for tensor in weights.values() if tensor.grad is not None] == [[0.0, 1.0, 2.0]] * 3


class Product(ToyCost):
    """Not a sum over decisions."""

    metric = "product"

    def estimate(self, architecture: Architecture) -> float:
        return math.prod(1.0 + value for value in self.breakdown(architecture).values())


def test_a_cost_without_an_expectation_is_named() -> None:
    space = ToySpace(blocks=2)
    costs = {"toy_cost": ToyCost(space), "product": TabulatedCost(Product(space), space)}
    problem = Problem({"toy_cost": "minimize"}, costs=costs)
    with pytest.raises(ConfigurationError, match="no cost 'toycost'; did you mean 'toy_cost'"):
        problem.expected_cost("toycost", {})
    with pytest.raises(ConfigurationError, match=r"'toy_cost' has no table; .* TabulatedCost\(ToyCost"):
        problem.expected_cost("toy_cost", {})
    with pytest.raises(ConfigurationError, match="'product' has no expectation: it is not the sum"):
        problem.expected_cost("product", {})


class CountedCost(ToyCost):
    """The toy cost; counts its estimates."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.estimates = 0

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        self.estimates += 1
        return super().breakdown(architecture)


def test_costs_without_a_limit_are_estimated_when_they_are_asked_for() -> None:
    space = ToySpace()
    free, limited = CountedCost(space), CountedCost(space)
    problem = Problem(
        {"accuracy": "maximize"}, [parse_constraint("limited", "<= 3")], {"free": free, "limited": limited}
    )
    architecture = Architecture({"d0": 2, "d1": 1, "d2": 0, "d3": 1})
    assert not problem.feasible(architecture)
    assert (free.estimates, limited.estimates) == (0, 1)
    assert list(problem.costs(architecture).items()) == [("free", 4.0), ("limited", 4.0)]
    assert problem.costs(architecture) == {"free": 4.0, "limited": 4.0}
    assert (free.estimates, limited.estimates) == (1, 1)


def test_an_impossible_limit_without_a_table_needs_few_repairs() -> None:
    space = ToySpace(blocks=20)  # 3.5e9 architectures: not enumerated
    cost = CountedCost(space)
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("cost", "<= -1")], {"cost": cost})
    with pytest.raises(InfeasibleError, match=r"the nearest misses 'cost <= -1'"):
        FeasibleSampler(space, problem, attempts=10).draw(random.Random(0), ())
    # Ten draws; two repairs that end at the same architecture, each in two passes over 20 decisions with two other
    # options, and a last one that finds no improvement. The start, the end and the message are judged again.
    assert cost.estimates <= 10 + 2 * 3 * 20 * 2 + 20


def test_a_long_search_for_a_feasible_network_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs are counted in milliseconds or more, so a search of a thousand networks can take minutes."""
    space = ToySpace()
    cost = ToyCost(space)
    values = sorted({cost.estimate(architecture) for architecture in enumerate_all(space.decisions)})
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("cost", f"<= {values[0]}")], {"cost": cost})
    clock = itertools.count(step=6.0)
    monkeypatch.setattr("automl_nas.strategy.feasible_sampler.time.monotonic", lambda: next(clock))
    found = FeasibleSampler(space, problem, 1000).draw(random.Random(1), set())
    assert found is not None and cost.estimate(found) == values[0]
    (record,) = caplog.records
    assert f"few networks meet cost <= {values[0]}" in record.getMessage()
    assert "none of 2 random ones so far, of at most 1,000" in record.getMessage()
