"""Limits on several additive costs at once: counts and draws against all architectures of small spaces."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping

import pytest
from core.evaluation.costs.test_cost_table import SPOS_FIXED, Formula, Milliseconds, additive, spos_blocks
from scipy.stats import chisquare

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation import CostInterval, CostSampler, CostTable
from automl_nas.evaluation.costs import joint_counting
from automl_nas.space import Architecture, Choice, DecisionSpace, Ordinal, SearchSpace, Subset, enumerate_all

SPACE = DecisionSpace(
    {
        "kind": Choice(("a", "b", "c")),
        "width": Ordinal((8, 16, 32)),
        "edges": Subset((0, 1, 2, 3), 1, 3),
        "heads": Subset(("x", "y")),
    }
)


def cost(seed: int, space: SearchSpace, kind: type[Formula] = Formula) -> CostTable:
    """Return a cost with random contributions; some are equal, as those of equal blocks, and some below zero."""
    rng = random.Random(seed)
    unit = 1.0 if kind is Formula else 0.37
    options = {name: [unit * rng.randrange(-3, 9) for _ in each.options] for name, each in space.decisions.items()}
    return CostTable.build(kind(additive(space, options, 100)), space)


@pytest.fixture(scope="module")
def tables() -> list[CostTable]:
    return [cost(1, SPACE), cost(2, SPACE), cost(3, SPACE, Milliseconds)]


def inside(intervals: list[CostInterval]) -> list[Architecture]:
    return [
        architecture
        for architecture in enumerate_all(SPACE.decisions)
        if all(each.low <= each.table.estimate(architecture) <= each.high for each in intervals)
    ]


def test_counts_are_those_of_all_architectures(tables: list[CostTable]) -> None:
    rng = random.Random(4)
    counted = 0
    for _ in range(60):
        chosen = [CostInterval(t, *sorted(rng.uniform(90, 130) for _ in "lh")) for t in rng.sample(tables, 2)]
        chosen += [CostInterval(tables[0], high=rng.uniform(95, 130))] * rng.randrange(2)
        wanted = len(inside(chosen))
        if wanted:
            assert CostSampler(chosen).count == wanted
            counted += 1
        else:
            with pytest.raises(InfeasibleError):
                CostSampler(chosen)
    assert counted > 20
    everywhere = [CostInterval(table) for table in tables]
    assert CostSampler(everywhere).count == len(inside(everywhere)) == SPACE.size


def test_draws_are_uniform(tables: list[CostTable]) -> None:
    """A chi-squared test at the level 0.001, with a fixed seed."""
    intervals = [CostInterval(tables[0], 104, 112), CostInterval(tables[1], high=113), CostInterval(tables[2], 100)]
    allowed = inside(intervals)
    assert 30 < len(allowed) < SPACE.size / 2
    sampler, rng = CostSampler(intervals), random.Random(9)
    seen = Counter(sampler.sample(rng) for _ in range(30 * len(allowed)))
    assert set(seen) <= set(allowed)
    assert chisquare([seen[architecture] for architecture in allowed]).pvalue > 0.001
    again, other = (random.Random(9) for _ in range(2))
    assert [sampler.sample(again) for _ in range(3)] == [CostSampler(intervals).sample(other) for _ in range(3)]


def test_limits_that_exclude_each_other_name_the_nearest_costs(tables: list[CostTable]) -> None:
    first, second = tables[:2]
    costs = [(first.estimate(a), second.estimate(a)) for a in enumerate_all(SPACE.decisions)]
    low = sorted(b for _, b in costs)[-5]
    least = min(a for a, b in costs if b >= low)
    high = min(a for a, _ in costs)
    assert high < least
    with pytest.raises(InfeasibleError) as caught:
        CostSampler([CostInterval(first, high=high), CostInterval(second, low=low)])
    nearest = max(b for a, b in costs if a <= high and b < low)
    assert f"the nearest flops above is {least:,}" in str(caught.value)
    assert f"the nearest flops below is {nearest:,}" in str(caught.value)
    with pytest.raises(InfeasibleError, match="the nearest cost above is"):
        CostSampler([CostInterval(first, high=min(a for a, _ in costs) - 1), CostInterval(second)])


@pytest.fixture(scope="module")
def spos() -> tuple[CostTable, CostTable]:
    """The FLOPs of the SPOS space, and a second cost: a block costs its square root."""
    space = DecisionSpace({f"block{number}": Choice((0, 1, 2, 3)) for number in range(20)})
    blocks: Mapping[str, list[float]] = {f"block{place}": list(costs) for place, costs in enumerate(spos_blocks())}
    roots: Mapping[str, list[float]] = {name: [math.isqrt(int(c)) for c in costs] for name, costs in blocks.items()}
    return tuple(CostTable.build(Formula(additive(space, o, f)), space) for o, f in ((blocks, SPOS_FIXED), (roots, 0)))  # type: ignore[return-value]


def test_the_parts_of_a_large_space_add_up(spos: tuple[CostTable, CostTable]) -> None:
    flops, roots = spos
    middle = roots.base + sum(sum(values) / 4 for values in roots.contributions.values())
    below = CostSampler([CostInterval(flops, high=330e6), CostInterval(roots, high=middle)])
    above = CostSampler([CostInterval(flops, high=330e6), CostInterval(roots, low=math.floor(middle) + 1)])
    assert below.count + above.count == 647_824_128_008
    assert min(below.count, above.count) > 4**17
    drawn = [above.sample(random.Random(seed)) for seed in range(20)]
    assert all(flops.estimate(a) <= 330e6 and roots.estimate(a) > middle for a in drawn)
    assert len(set(drawn)) == 20


def test_too_many_sums_are_refused(spos: tuple[CostTable, CostTable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint_counting, "MOST_PAIRS", 1000)
    with pytest.raises(SpaceError, match=r"limits on flops and flops together need over 1,000 comparisons"):
        CostSampler([CostInterval(table) for table in spos])
