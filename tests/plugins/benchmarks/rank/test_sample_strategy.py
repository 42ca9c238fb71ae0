"""`SampleStrategy` evaluates a fixed sample of a space."""

from __future__ import annotations

import pytest

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, Choice, DecisionSpace, SearchSpace
from automl_nas.strategy import Problem
from automl_nas.testing import AskTellContract, ToyCost, ToySpace
from automl_nas_benchmarks.rank.sample_strategy import SampleStrategy
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro


class TestUniform(AskTellContract):
    learns = False

    def space(self) -> SearchSpace:
        return ToySpace(blocks=4, options=4)

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> SampleStrategy:
        return SampleStrategy(space, problem, seed=seed, count=None, sample_seed=None)


class TestStratified(TestUniform):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> SampleStrategy:
        cut = {"sample": "stratified", "by": "toy_cost", "strata": 4}
        return SampleStrategy(space, problem, seed=seed, count=2000, sample_seed=None, **cut)  # type: ignore[arg-type]


def proposed(survey: SampleStrategy, n: int = 10_000) -> list[Architecture]:
    return [proposal.architecture for proposal in survey.ask(n)]


def test_sample_strategy_is_the_same_for_all_runs() -> None:
    space, problem = ToySpace(blocks=5, options=4), Problem({"accuracy": "maximize"})
    assert proposed(SampleStrategy(space, problem, seed=1)) == proposed(SampleStrategy(space, problem, seed=2))
    assert proposed(SampleStrategy(space, problem, seed=1)) != proposed(
        SampleStrategy(space, problem, seed=1, sample_seed=1)
    )


def test_sample_strategy_of_a_whole_space_is_distinct() -> None:
    space = NASBenchMacro()
    architectures = proposed(SampleStrategy(space, Problem({"accuracy": "maximize"}), seed=0, count=None))
    # 3 choices for layer 1, 2, 3 and 6 each; the 9 pairs of layers 4 and 5, and of 7 and 8, have 7 different networks,
    # since the position of an identity is irrelevant.
    assert len(architectures) == len({space.canonical(item) for item in architectures}) == 3 * 3 * (3 * 7) * (3 * 7)


def test_sample_strategy_strata_have_equal_sizes() -> None:
    space = ToySpace(blocks=5, options=4)
    cost = ToyCost(space)
    problem = Problem({"accuracy": "maximize"}, costs={"size": cost})
    drawn = proposed(SampleStrategy(space, problem, seed=0, count=60, sample="stratified", by="size", strata=4))
    everything = sorted(cost.estimate(item) for item in proposed(SampleStrategy(space, problem, seed=0, count=None)))
    assert len(drawn) == len(set(drawn)) == 60
    # Each quarter of the space gives 15, and any prefix of the sample is as balanced as it can be. Networks of equal
    # cost on a border may belong to either quarter, so the borders are counted from both sides.
    for prefix in (20, 60):
        for quarter in range(4):
            low, high = everything[256 * quarter], everything[256 * (quarter + 1) - 1]
            values = [cost.estimate(item) for item in drawn[:prefix]]
            inside = sum(low < value < high for value in values)
            assert inside <= prefix // 4 <= sum(low <= value <= high for value in values)


def test_sample_strategy_draws_from_a_large_space() -> None:
    space = DecisionSpace(dict.fromkeys((f"d{number}" for number in range(20)), Choice((0, 1, 2, 3))))  # 4^20
    problem = Problem({"accuracy": "maximize"})
    assert len(set(proposed(SampleStrategy(space, problem, seed=0, count=50)))) == 50
    with pytest.raises(ConfigurationError, match="count: must be a number") as raised:
        SampleStrategy(space, problem, seed=0, count=None)
    assert raised.value.path == "count"


def test_sample_strategy_settings_are_checked() -> None:
    space = ToySpace(blocks=2, options=2)
    with pytest.raises(ConfigurationError, match=r"no cost 'flops'.*problem\.costs"):
        SampleStrategy(space, Problem({"accuracy": "maximize"}), seed=0, sample="stratified")
    with pytest.raises(ConfigurationError, match="count must be at least 1"):
        SampleStrategy(space, Problem({"accuracy": "maximize"}), seed=0, count=0)


def test_sample_strategy_plans_no_more_networks_than_the_space_has() -> None:
    """With ``count`` alone a run of minutes would be announced as one of hours."""
    space = NASBenchMacro()
    strategy = SampleStrategy(space, Problem({"accuracy": "maximize"}), seed=0, count=100_000)
    assert strategy.planned == 3**8
    proposals = strategy.ask(100_000)
    distinct = {space.canonical(proposal.architecture) for proposal in proposals}
    assert strategy.planned == len(proposals) == len(distinct) == 3969
    assert SampleStrategy(space, Problem({"accuracy": "maximize"}), seed=0, count=5).planned == 5
