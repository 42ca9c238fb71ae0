from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import combinations, islice, pairwise
from typing import ClassVar

import numpy as np
import pytest
import torch

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.costs import exact_counting
from automl_nas.evaluation.costs.additivity import pairwise_covering
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.table import CostTable, NotAdditiveError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.space.selection import Weighted
from automl_nas.space.space import SearchSpace


class Formula(CostModel):
    """A cost from a function, whole numbers."""

    metric: ClassVar[str] = "flops"
    unit: ClassVar[str] = "multiply-adds"
    integral: ClassVar[bool] = True

    def __init__(self, function: Callable[[Architecture], float]) -> None:
        self.function = function

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": self.function(architecture)}


class Milliseconds(Formula):
    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    integral: ClassVar[bool] = False


def additive(space: SearchSpace, options: Mapping[str, list[float]], base: float) -> Callable[[Architecture], float]:
    """Sum by hand what `CostTable` shall find: independent of `encode`."""

    def cost(architecture: Architecture) -> float:
        total = base
        for name, decision in space.decisions.items():
            value = architecture[name]
            for option in value if isinstance(value, tuple) else (value,):
                total += options[name][decision.options.index(option)]
        return total

    return cost


# --- The SPOS space, from its published description in closed form -----------------------------------------------


def spos_block(inputs: int, outputs: int, stride: int, size: int) -> tuple[int, int, int, int]:
    """Return the multiply-adds of shuffle 3x3, 5x5, 7x7 and Xception on inputs of ``size`` x ``size``."""
    first = inputs // 2 if stride == 1 else inputs
    middle = outputs // 2
    last = middle if stride == 1 else outputs - inputs
    before, after = size**2, (size // stride) ** 2
    projection = {k: after * (k**2 * inputs + inputs**2) if stride == 2 else 0 for k in (3, 5, 7)}
    shuffle = {
        k: before * first * middle + after * k**2 * middle + after * middle * last + projection[k] for k in (3, 5, 7)
    }
    xception = after * (9 * first + first * middle + 9 * middle + middle**2 + 9 * middle + middle * last)
    return shuffle[3], shuffle[5], shuffle[7], xception + projection[3]


def spos_blocks() -> list[tuple[int, int, int, int]]:
    found, inputs, size = [], 16, 112
    for outputs, repeats in ((64, 4), (160, 4), (320, 8), (640, 4)):
        for number in range(repeats):
            stride = 2 if number == 0 else 1
            found.append(spos_block(inputs, outputs, stride, size))
            inputs, size = outputs, size // stride
    return found


SPOS_FIXED = 112 * 112 * 16 * 3 * 9 + 7 * 7 * 640 * 1024 + 1024 * 1000


def spos_architecture(codes: list[int]) -> Architecture:
    return Architecture({f"block{place}": code for place, code in enumerate(codes)})


@pytest.fixture(scope="module")
def spos() -> CostTable:
    space = DecisionSpace({f"block{number}": Choice((0, 1, 2, 3)) for number in range(20)})
    options: dict[str, list[float]] = {f"block{place}": list(costs) for place, costs in enumerate(spos_blocks())}
    return CostTable.build(Formula(additive(space, options, SPOS_FIXED)), space)


def test_spos_published_architectures(spos: CostTable) -> None:
    found = [2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3]
    other = [2, 0, 2, 0, 3, 1, 1, 0, 0, 1, 0, 1, 0, 3, 1, 2, 2, 0, 1, 3]
    assert spos.estimate(spos_architecture(found)) == 322_918_720
    assert spos.estimate(spos_architecture(other)) == 317_023_040
    assert spos.estimates(np.array([found, other])).tolist() == [322_918_720, 317_023_040]


def test_spos_distribution(spos: CostTable) -> None:
    assert round(spos.smallest[1] / 1e6, 2) == 270.36
    assert round(spos.largest[1] / 1e6, 2) == 398.61
    mean = spos.base + sum(np.mean(costs) for costs in spos.contributions.values())
    deviation = math.sqrt(sum(np.var(costs) for costs in spos.contributions.values()))
    assert round(mean / 1e6, 2) == 327.17
    assert round(deviation / 1e6, 2) == 11.83


def test_spos_counts(spos: CostTable) -> None:
    assert spos.count() == 4**20
    assert spos.count(high=330e6) == 647_824_128_008
    assert spos.count(low=330e6 + 1) == 4**20 - 647_824_128_008
    assert spos.count(290e6, 330e6) + spos.count(high=290e6 - 1) == 647_824_128_008


def test_spos_draws_inside_a_narrow_interval(spos: CostTable) -> None:
    """The lowest 100,000th of the space, where rejection would take 100,000 draws and more."""
    rng = random.Random(3)
    high = 279e6
    assert 0 < spos.count(high=high) < 4**20 / 1e5
    drawn = [spos.sample(rng, high=high) for _ in range(50)]
    assert all(spos.estimate(architecture) <= high for architecture in drawn)
    assert len(set(drawn)) > 45


def test_expectation_of_the_uniform_selection_is_the_mean(spos: CostTable) -> None:
    uniform = {f"block{place}": torch.full((4,), 0.25, dtype=torch.float64) for place in range(20)}
    mean = SPOS_FIXED + sum(sum(costs) / 4 for costs in spos_blocks())
    assert spos.expectation(uniform).item() == pytest.approx(mean, rel=1e-14)


# --- Any decisions, against enumeration ---------------------------------------------------------------------------


SPACES: dict[str, dict[str, Decision]] = {
    "choices": {
        "a": Choice(("x", "y", "z")),
        "b": Choice((0, 1)),
        "c": Ordinal((8, 16, 32, 64)),
        "d": Choice(("only",)),
    },
    "free subset": {"a": Choice((0, 1, 2)), "s": Subset(("p", "q", "r", "t")), "b": Ordinal((1, 2))},
    "bounded subset": {
        "s": Subset((0, 1, 2, 3, 4), min=1, max=3),
        "a": Choice((0, 1, 2)),
        "t": Subset(("u", "v"), min=1),
    },
    "subsets of one size": {"s": Subset((0, 1, 2, 3, 4), min=2, max=2), "a": Choice((0, 1)), "t": Subset((5, 6), 2, 2)},
    "at most": {"s": Subset((0, 1, 2, 3), max=2), "t": Subset((0, 1, 2), max=0), "u": Subset((0, 1, 2), min=2)},
}


def contributions(decisions: Mapping[str, Decision], seed: int, integral: bool) -> dict[str, list[float]]:
    """Random contributions: some negative, some equal, so that sums coincide."""
    rng = random.Random(seed)
    draw: Callable[[], float] = (lambda: rng.randint(-3, 9)) if integral else (lambda: rng.uniform(-0.3, 2.0))
    return {name: [draw() for _ in decision.options] for name, decision in decisions.items()}


@pytest.fixture(params=[(name, integral) for name in SPACES for integral in (True, False)], ids=str)
def case(request: pytest.FixtureRequest) -> tuple[CostTable, dict[Architecture, float]]:
    """A table, and the cost of every architecture by enumeration."""
    name, integral = request.param
    space = DecisionSpace(SPACES[name])
    cost = additive(space, contributions(space.decisions, len(name), integral), 40)
    model = Formula(cost) if integral else Milliseconds(cost)
    known = {architecture: cost(architecture) for architecture in enumerate_all(space.decisions)}
    assert len(known) == space.size
    return CostTable.build(model, space), known


Case = tuple[CostTable, dict[Architecture, float]]


def close(table: CostTable, value: float, expected: float) -> bool:
    # Contributions lie on a grid of 2^-50 of the range: a sum of ten is off by less than 1e-13 of it.
    return value == expected if table.integral else math.isclose(value, expected, rel_tol=1e-13)


def test_every_estimate(case: Case) -> None:
    table, known = case
    assert all(close(table, table.estimate(architecture), value) for architecture, value in known.items())


def test_many_estimates_are_the_same_numbers(case: Case) -> None:
    table, known = case
    found = table.estimates(table.encode(known))
    assert found.tolist() == [table.estimate(architecture) for architecture in known]
    assert found.dtype == (np.int64 if table.integral else np.float64)


def test_extremes(case: Case) -> None:
    table, known = case
    for (architecture, value), want in ((table.smallest, min(known.values())), (table.largest, max(known.values()))):
        assert close(table, value, want)
        assert table.estimate(architecture) == value
        assert architecture in known


def test_counts(case: Case) -> None:
    table, known = case
    values = sorted(table.estimate(architecture) for architecture in known)
    assert table.count() == len(values)
    rng = random.Random(1)
    # Limits at attained values, where < and <= differ, between them, and outside.
    limits = [
        *rng.sample(values, 6),
        *(rng.uniform(values[0] - 1, values[-1] + 1) for _ in range(6)),
        -math.inf,
        math.inf,
    ]
    for low in limits:
        for high in limits:
            assert table.count(low, high) == sum(low <= value <= high for value in values)


def test_draws_are_uniform_in_the_interval(case: Case) -> None:
    table, known = case
    values = sorted(table.estimate(architecture) for architecture in known)
    low, high = values[len(values) // 4], values[3 * len(values) // 4]
    inside = [architecture for architecture in known if low <= table.estimate(architecture) <= high]
    rng = random.Random(7)
    each = 12
    seen = Counter(table.sample(rng, low, high) for _ in range(each * len(inside)))
    assert set(seen) <= set(inside)
    statistic = sum((seen[architecture] - each) ** 2 / each for architecture in inside)
    # Chi-square with n - 1 degrees of freedom: six standard deviations above its mean. The seed is fixed, so the test
    # either always passes or always fails; a sampler that favours costs instead of architectures exceeds it many times.
    degrees = len(inside) - 1
    assert statistic <= degrees + 6 * math.sqrt(2 * degrees)


def test_an_empty_interval_names_the_nearest_costs(case: Case) -> None:
    table, known = case
    values = sorted({table.estimate(architecture) for architecture in known})
    below, above = max(pairwise(values), key=lambda pair: pair[1] - pair[0])
    low, high = below + (above - below) * 0.25, below + (above - below) * 0.75
    if table.count(low, high):
        pytest.skip("costs without a gap")
    with pytest.raises(InfeasibleError) as caught:
        table.sample(random.Random(0), low, high)
    assert f"the nearest cost below is {below:,} " in str(caught.value)
    assert f"the nearest cost above is {above:,} " in str(caught.value)
    with pytest.raises(InfeasibleError, match="nearest cost above"):
        table.sample(random.Random(0), high=values[0] - 1)
    with pytest.raises(InfeasibleError, match="nearest cost below"):
        table.sample(random.Random(0), low=values[-1] + 1)


def test_expectation_is_the_mean_over_independent_draws(case: Case) -> None:
    """Against enumeration; a bounded Subset is no product distribution, so only values are used for those."""
    table, known = case
    generator = torch.Generator().manual_seed(5)
    decisions = table._decisions
    selection: dict[str, object] = {}
    chances: dict[str, list[float]] = {}
    some = next(iter(known))
    for name, decision in decisions.items():
        if isinstance(decision, Subset) and (decision.min or decision.largest < decision.width):
            selection[name] = some[name]
            continue
        weights = torch.rand(len(decision.options), generator=generator, dtype=torch.float64)
        weights = weights if isinstance(decision, Subset) else weights / weights.sum()
        selection[name], chances[name] = weights, weights.tolist()
    mean = 0.0
    for architecture, value in known.items():
        chance = 1.0
        for name, decision in decisions.items():
            if name not in chances:
                chance *= architecture[name] == selection[name]
            elif isinstance(decision, Subset):
                for option, p in zip(decision.options, chances[name], strict=True):
                    chance *= p if option in architecture[name] else 1 - p  # type: ignore[operator]
            else:
                chance *= chances[name][decision.position(architecture[name])]
        mean += chance * value
    # Both sums are in double precision over at most a few hundred terms.
    assert table.expectation(selection).item() == pytest.approx(mean, rel=1e-12)  # type: ignore[arg-type]


def test_expectation_of_an_architecture_is_its_cost(case: Case) -> None:
    table, known = case
    for architecture in list(known)[:10]:
        found = table.expectation(architecture)
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(table.estimate(architecture), rel=1e-13)


# --- Soft selections ------------------------------------------------------------------------------------------------


def test_gradients_are_the_contributions() -> None:
    space = DecisionSpace({"a": Choice(("x", "y", "z")), "s": Subset(("p", "q", "r"))})
    options: dict[str, list[float]] = {"a": [10, 4, 7], "s": [1, 2, 4]}
    table = CostTable.build(Formula(additive(space, options, 100)), space)
    a = torch.tensor([0.5, 0.25, 0.25], requires_grad=True)
    s = torch.tensor([0.1, 2.0], requires_grad=True)
    cost = table.expectation({"a": a, "s": Weighted(("r", "p"), s)})
    assert cost.shape == ()
    assert cost.item() == pytest.approx(100 + 0.5 * 10 + 0.25 * 4 + 0.25 * 7 + 0.1 * 4 + 2.0 * 1, rel=1e-6)  # float32
    cost.backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None and s.grad is not None
    # Of a Choice only differences mean anything, since its probabilities sum to one.
    assert (a.grad - a.grad.min()).tolist() == [6, 0, 3]
    assert s.grad.tolist() == [4, 1]


def test_a_gate_on_one_option() -> None:
    space = DecisionSpace({"a": Choice(("x", "y"))})
    table = CostTable.build(Formula(additive(space, {"a": [3, 8]}, 10)), space)
    assert table.expectation({"a": Weighted("y", torch.tensor(1.0))}).item() == 18
    with pytest.raises(SpaceError, match="needs 2 weights, not 3"):
        table.expectation({"a": torch.ones(3)})
    with pytest.raises(SpaceError, match="lacks the decision 'a'"):
        table.expectation({})


# --- What is not additive -------------------------------------------------------------------------------------------


def test_an_interaction_of_one_pair_of_options_is_found() -> None:
    """One pair of options out of 190 x 16 costs one unit more."""
    space = DecisionSpace({f"d{number}": Choice((0, 1, 2, 3)) for number in range(20)})
    plain = additive(space, {name: [0, 10, 20, 30] for name in space.decisions}, 5)
    CostTable.build(Formula(plain), space)
    rng = random.Random(4)
    for _ in range(20):
        first, second = rng.sample(list(space.decisions), 2)
        one, other = rng.randrange(4), rng.randrange(4)
        model = Formula(lambda a: plain(a) + (a[first] == one and a[second] == other))  # noqa: B023 - used at once
        with pytest.raises(NotAdditiveError, match="'flops' is not additive") as caught:
            CostTable.build(model, space)
        assert isinstance(caught.value, SpaceError)


def test_pairwise_covering_holds_every_pair_of_options() -> None:
    """Within the three quarters of the 64 checks that are spread."""
    decisions: dict[str, Decision] = {f"d{number}": Choice(("w", "x", "y", "z")) for number in range(20)}
    decisions["s"] = Subset(tuple(range(6)), min=2, max=3)
    found = list(islice(pairwise_covering(decisions, random.Random(0)), 48))
    pairs = {
        (one, a[one], other, a[other]) for a in found for one, other in combinations([f"d{n}" for n in range(20)], 2)
    }
    assert len(pairs) == 190 * 16
    assert all(DecisionSpace(decisions).validate(architecture) == architecture for architecture in found)


def test_a_node_that_dies_with_its_last_edge_is_found() -> None:
    """Uniform draws from 2^24 subsets hardly ever hit the empty node: the neighbours of the smallest do."""
    names = [f"n{number}" for number in range(4)]
    space = DecisionSpace({name: Subset(tuple(range(6))) for name in names})
    model = Formula(lambda a: sum(50 * bool(a[name]) + 3 * len(a[name]) for name in names))  # type: ignore[arg-type]
    with pytest.raises(NotAdditiveError):
        CostTable.build(model, space)


def test_a_small_space_is_tested_completely() -> None:
    """The only interaction is in one of 64 architectures."""
    space = DecisionSpace({name: Choice((0, 1, 2, 3)) for name in "abc"})
    model = Formula(lambda a: 1 + (a["a"] == 2 and a["b"] == 1 and a["c"] == 3))
    with pytest.raises(NotAdditiveError):
        CostTable.build(model, space)


def test_a_table_needs_few_estimates() -> None:
    calls = Counter[Architecture]()
    space = DecisionSpace({f"d{number}": Choice((0, 1, 2, 3)) for number in range(20)})

    def cost(architecture: Architecture) -> float:
        calls[architecture] += 1
        return 1.0

    CostTable.build(Formula(cost), space, checks=64)
    assert calls.total() == 1 + 20 * 3 + 2 + 64


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.5])
def test_an_integral_model_with_a_fraction(value: float) -> None:
    space = DecisionSpace({"a": Choice((0, 1))})
    with pytest.raises(SpaceError, match=str(value)):
        CostTable.build(Formula(lambda a: value if a["a"] else 1), space)


# --- Large numbers and many decisions -------------------------------------------------------------------------------


def test_counts_beyond_64_bits() -> None:
    """100 decisions of cost 0 or 1: binomial coefficients."""
    space = DecisionSpace({f"d{number}": Choice((0, 1)) for number in range(100)})
    table = CostTable.build(Formula(lambda a: sum(int(str(v)) for v in a.values())), space)
    for high in (0, 1, 37, 50, 99):
        assert table.count(high=high) == sum(math.comb(100, ones) for ones in range(high + 1))
    assert table.count() == 2**100
    assert table.estimate(table.sample(random.Random(0), 41, 41)) == 41


def test_values_beyond_64_bits() -> None:
    space = DecisionSpace({"a": Choice((0, 1)), "s": Subset((0, 1, 2), min=1, max=2)})
    options: dict[str, list[float]] = {"a": [10**30, 1], "s": [10**25, 3, 5]}
    cost = additive(space, options, 7)
    table = CostTable.build(Formula(cost), space)
    known = [(a, cost(a)) for a in enumerate_all(space.decisions)]
    assert table.estimates(table.encode(a for a, _ in known)).tolist() == [value for _, value in known]
    # A float limit is taken exactly: 1e30 is below 10**30, which no double can hold.
    assert table.count(high=1e30) == sum(value <= int(1e30) for _, value in known)
    assert table.count(low=10, high=12) == sum(10 <= value <= 12 for _, value in known)
    assert table.sample(random.Random(0), high=11) == Architecture({"a": 1, "s": (1,)})


def test_a_small_part_of_a_large_set() -> None:
    """Subsets of 3 to 5 of 90 elements, and of at least 88: sizes that cannot end well are dropped on the way."""
    rng = random.Random(2)
    weights = [rng.randint(1, 10**6) for _ in range(90)]
    space = DecisionSpace({"few": Subset(tuple(range(90)), min=1, max=2), "most": Subset(tuple(range(90)), min=89)})
    table = CostTable.build(
        Formula(lambda a: sum(weights[int(str(e))] for e in (*a["few"], *a["most"]))),  # type: ignore[misc]
        space,
    )
    assert table.count() == (90 + math.comb(90, 2)) * 91
    drawn = table.sample(rng, *[table.smallest[1]] * 2)
    assert drawn == table.smallest[0]


def test_too_many_sums_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_counting, "MOST_SUMS", 200)
    space = DecisionSpace({f"d{number}": Choice((0, 1, 2, 3)) for number in range(12)})
    options = contributions(space.decisions, 0, integral=False)
    table = CostTable.build(Milliseconds(additive(space, options, 0)), space)
    with pytest.raises(SpaceError, match="too many distinct costs to count exactly"):
        table.count()
    assert table.estimate(table.smallest[0]) == table.smallest[1]


# --- Bad input ------------------------------------------------------------------------------------------------------


def small() -> CostTable:
    space = DecisionSpace({"a": Choice((0, 1, 2)), "s": Subset(("p", "q", "r"), min=1, max=2)})
    return CostTable.build(Formula(additive(space, {"a": [1, 2, 3], "s": [4, 5, 6]}, 0)), space)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[3, 1, 0, 0]], "'a' must be from 0 to 2"),
        ([[-1, 1, 0, 0]], "'a' must be from 0 to 2"),
        ([[0, 2, 0, 0]], "'s' must be from 0 to 1"),
        ([[0, 0, 0, 0]], "'s' must have 1 to 2 options"),
        ([[0, 1, 0, 0], [0, 1, 1, 1]], "'s' must have 1 to 2 options"),
        ([[0, 1, 0]], r"shape \(n, 4\)"),
        ([[0.0, 1.0, 0.0, 0.0]], "integers"),
    ],
)
def test_wrong_codes(codes: list[list[float]], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        small().estimates(np.array(codes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": 0}, "lacks the decision 's'"),
        ({"a": 7, "s": ("p",)}, "decision 'a': 7 is not an option"),
        ({"a": 0, "s": ()}, "decision 's'"),
        ({"a": 0, "s": ("p", "p")}, "twice"),
        ({"a": 0, "s": "p"}, "not a tuple"),
    ],
)
def test_wrong_architectures(values: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        small().estimate(Architecture(values))


def test_limits_that_are_nan() -> None:
    with pytest.raises(SpaceError, match="NaN"):
        small().count(high=math.nan)


def test_no_rows() -> None:
    assert small().estimates(small().encode([])).shape == (0,)


def test_the_order_of_a_subset_does_not_matter() -> None:
    table = small()
    assert table.estimate(Architecture({"a": 0, "s": ("r", "p")})) == table.estimate(
        Architecture({"a": 0, "s": ("p", "r")})
    )


def test_options_that_are_equal_in_python() -> None:
    space = DecisionSpace({"a": Choice((1, True, 0, False))})
    costs = {"1": 5, "true": 7, "0": 11, "false": 13}
    model = Formula(lambda a: costs[a.key.partition(":")[2].rstrip("}")])
    table = CostTable.build(model, space)
    assert [table.estimate(Architecture({"a": option})) for option in (1, True, 0, False)] == [5, 7, 11, 13]


@pytest.mark.process
def test_torch_is_not_imported() -> None:
    code = "import sys, automl_nas.evaluation.costs.tabulated; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
