"""The strategies and the evaluator keep their contracts."""

from __future__ import annotations

from typing import ClassVar

from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.testing.ask_tell import AskTellContract
from automl_nas.testing.evaluators import EvaluatorContract
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator
from automl_nas_multifidelity.asha import Asha
from automl_nas_multifidelity.brackets import Hyperband, SuccessiveHalving
from automl_nas_multifidelity.levels import Levels
from automl_nas_surrogate.search import SurrogateSearch

FIDELITIES = [1.0, 3.0, 9.0]


class _MultiFidelity(AskTellContract):
    __test__ = False
    may_repeat = True  # at another fidelity
    search_length: ClassVar[int] = 80


class TestSuccessiveHalving(_MultiFidelity):
    __test__ = True

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return SuccessiveHalving(space, problem, seed=seed, fidelities=FIDELITIES, attempts=100)


class TestHyperband(_MultiFidelity):
    __test__ = True

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return Hyperband(space, problem, seed=seed, fidelities=FIDELITIES, attempts=100)


class TestHyperbandWithAModel(_MultiFidelity):
    __test__ = True
    exhaustive = False  # the model proposes what it can find among neighbours
    trials = 45
    search_length = 45

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        model = SurrogateSearch(space, problem, seed=seed, random=20, neighbourhood=10)
        return Hyperband(space, problem, seed=seed, fidelities=FIDELITIES, strategy=model)


class TestAsha(_MultiFidelity):
    __test__ = True

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return Asha(space, problem, seed=seed, fidelities=FIDELITIES, attempts=100)


class TestLevels(EvaluatorContract):
    fidelity = 1

    def make_space(self) -> SearchSpace:
        return NASBench201()

    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        return Levels(evaluators=[NASBench201Evaluator(space), NASBench201Evaluator(space, epochs=200)])
