"""Every strategy and wrapper keeps the contract of ask-and-tell strategies."""

from __future__ import annotations

from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.racing import Race
from automl_nas.strategy.wrappers import Deduplicate, Filter, Retry
from automl_nas.testing.ask_tell import AskTellContract
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_evolution.local_search import LocalSearch
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution


class TestRandom(AskTellContract):
    learns = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return RandomSearch(space, problem, seed=seed, attempts=100)


class TestRandomWithDuplicates(AskTellContract):
    learns = False
    may_repeat = True
    ends = False
    exhaustive = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return RandomSearch(space, problem, seed=seed, duplicates=True)


class TestEvolution(AskTellContract):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return EvolutionarySearch(
            space, problem, seed=seed, population=10, top_k=3, generations=None, mutation_probability=0.3, attempts=100
        )


class TestEvolutionEndsAfterItsGenerations(AskTellContract):
    exhaustive = False
    trials = 40

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return EvolutionarySearch(space, problem, seed=seed, population=10, generations=4, attempts=100)


class TestAging(AskTellContract):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return RegularizedEvolution(space, problem, seed=seed, population=8, sample_size=3, attempts=100)


class TestSteepestLocalSearch(AskTellContract):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return LocalSearch(space, problem, seed=seed, attempts=100)


class TestFirstImprovementLocalSearch(AskTellContract):
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return LocalSearch(space, problem, seed=seed, improvement="first", attempts=100)


class TestDeduplicate(AskTellContract):
    learns = False
    exhaustive = False

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        inner = RandomSearch(space, problem, seed=seed, duplicates=True)
        return Deduplicate(space, problem, strategy=inner, attempts=200)


class TestFilter(AskTellContract):
    learns = False

    # Whoever does not know of the constraint still draws 1,024 networks one by one.
    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        blind = Problem(problem.objectives)
        return Filter(space, problem, strategy=RandomSearch(space, blind, seed=seed, attempts=100))


class TestRetry(AskTellContract):
    learns = False
    may_repeat = True

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return Retry(space, problem, strategy=RandomSearch(space, problem, seed=seed, attempts=100))


class TestNestedWrappers(AskTellContract):
    may_repeat = True

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        blind = Problem(problem.objectives)
        inner = EvolutionarySearch(space, blind, seed=seed, population=10, generations=None, attempts=100)
        filtered = Filter(space, problem, strategy=inner)
        return Retry(space, problem, strategy=Deduplicate(space, problem, strategy=filtered))


class TestRace(AskTellContract):
    """Trials at the fidelity of the part have values of blocks; see `AskTellContract.evaluated`."""

    several_objectives = False
    several_fidelities = True
    trials = 40

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        inner = RandomSearch(space, problem, seed=seed, attempts=100)
        return Race(space, problem, strategy=inner, part=100.0, candidates=6, keep=2)
