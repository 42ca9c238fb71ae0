"""The contract of ask-and-tell strategies, for every sampler."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

import pytest
from plugins.optuna.spaces import Mixed

from automl_nas.space.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Deduplicate, Problem
from automl_nas.testing import AskTellContract
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import Sampler


class OnMixed(AskTellContract):
    trials: ClassVar[int] = 15
    search_length: ClassVar[int] = 45  # a study is rebuilt at each resume, trial by trial

    def space(self) -> SearchSpace:
        return Mixed()

    def small_space(self) -> SearchSpace:
        return Mixed(widths=1)


class TestRandom(AskTellContract):
    trials: ClassVar[int] = 18
    search_length: ClassVar[int] = 45
    learns = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler="random")


class TestTpeOnMixedDecisions(OnMixed):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler=Sampler("tpe", {"n_startup_trials": 5}), attempts=5)


class TestNsgaii(AskTellContract):
    trials: ClassVar[int] = 18
    search_length: ClassVar[int] = 45

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler=Sampler("nsgaii", {"population_size": 6}))


class TestNsgaiii(OnMixed):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler=Sampler("nsgaiii", {"population_size": 6}))


class TestQmc(OnMixed):
    learns = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler="qmc")


@pytest.mark.skipif(importlib.util.find_spec("cmaes") is None, reason="CMA-ES needs the library cmaes")
class TestCmaes(OnMixed):
    several_objectives = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler="cmaes")


class TestRandomWithDuplicates(AskTellContract):
    trials: ClassVar[int] = 18
    search_length: ClassVar[int] = 45
    learns = False
    may_repeat = True
    ends = False
    exhaustive = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return OptunaStrategy(space, problem, seed=seed, sampler="random", duplicates=True)


class TestTpeInsideDeduplicate(AskTellContract):
    trials: ClassVar[int] = 15
    search_length: ClassVar[int] = 45
    exhaustive = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        inner = OptunaStrategy(space, problem, seed=seed, sampler="tpe", duplicates=True)
        return Deduplicate(space, problem, strategy=inner, attempts=20)
