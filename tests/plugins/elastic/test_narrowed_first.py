from __future__ import annotations

import random
from typing import Any

import pytest
from plugins.elastic.networks import SmallResNet

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import State
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space import Ordinal, SearchSpace
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.strategy.problem import parse_constraint
from automl_nas.testing.ask_tell import AskTellContract
from automl_nas.testing.toys import ToySpace
from automl_nas_costs.models import Flops
from automl_nas_elastic.narrowed_first import NarrowedFirst
from automl_nas_elastic.space import ElasticSpace
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_surrogate.search import SurrogateSearch

SHAPE = (3, 8, 8)


class Widths(ToySpace):
    """The toy space with ordered options whose names are those of widths."""

    def __init__(self, *, blocks: int, options: int) -> None:
        super().__init__(blocks=blocks, options=options)
        self._decisions = {f"d{block}.width": Ordinal(tuple(range(1, options + 1))) for block in range(blocks)}


class TestTheContract(AskTellContract):
    def space(self) -> SearchSpace:
        return Widths(blocks=5, options=4)

    def small_space(self) -> SearchSpace:
        return Widths(blocks=2, options=3)

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return NarrowedFirst(space, problem, strategy=SurrogateSearch(space, problem, seed=seed))


def make_space(**settings: Any) -> ElasticSpace:
    settings = {"granularity": 1, "widths": (0.25, 0.5, 0.75, 1.0), **settings}
    return ElasticSpace(SmallResNet(16).eval(), input_shape=SHAPE, **settings)


def make_problem(space: ElasticSpace, share: float) -> Problem:
    flops = TabulatedCost(Flops(space), space)
    most = int(share * flops.extremes().largest_value)
    constraint = parse_constraint("flops", f"<= {most}")
    return Problem({"loss": "minimize"}, (constraint,), {"flops": flops})


def make(space: ElasticSpace, problem: Problem, **settings: Any) -> NarrowedFirst:
    return NarrowedFirst(space, problem, strategy=RandomSearch(space, problem, seed=0), **settings)


def narrower(strategy: NarrowedFirst) -> list[Proposal]:
    return [each for each in strategy.ask(10) if each.info.get("origin") == "narrower"]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_narrower_networks_are_uniform_up_to_one_option_and_use_the_limit(share: float) -> None:
    space = make_space()
    problem = make_problem(space, share)
    first = narrower(make(space, problem))
    assert 1 <= len(first) <= 3
    for proposal in first:
        architecture = proposal.architecture
        assert problem.feasible(architecture)
        positions = []
        for name, decision in space.decisions.items():
            position = decision.options.index(architecture[name])
            if name.endswith(".width"):
                positions.append(position)
            else:
                assert position == len(decision.options) - 1, "everything but widths has its largest option"
        assert max(positions) - min(positions) <= 1
        # The limit leaves no room for one more step of all widths.
        wider = {
            name: decision.options[min(min(positions) + 1, len(decision.options) - 1)]
            for name, decision in space.decisions.items()
            if name.endswith(".width")
        }
        assert min(positions) == len(decision.options) - 1 or not problem.feasible(architecture.replace(wider))


def test_everything_is_feasible_without_a_constraint() -> None:
    space = make_space()
    (only,) = narrower(make(space, Problem({"loss": "minimize"})))
    assert only.architecture == space.validate({name: each.options[-1] for name, each in space.decisions.items()})


def test_no_narrower_network_meets_a_limit_that_only_shallow_ones_meet() -> None:
    space = make_space(widths=(0.75, 1.0))
    problem = make_problem(space, 0.5)
    assert not narrower(make(space, problem))


def test_the_other_strategy_goes_on_and_learns_from_all_trials() -> None:
    space = make_space()
    problem = make_problem(space, 0.5)
    told: list[Trial] = []

    class Listening(RandomSearch):
        def tell(self, trials: Any) -> None:
            told.extend(trials)
            super().tell(trials)

    strategy = NarrowedFirst(space, problem, strategy=Listening(space, problem, seed=0))
    proposals = strategy.ask(1)
    copy = NarrowedFirst(space, problem, strategy=Listening(space, problem, seed=0))
    copy.load_search_state(strategy.search_state())
    rest = strategy.ask(9)
    assert [each.architecture for each in copy.ask(9)] == [each.architecture for each in rest]
    proposals += rest
    assert len(proposals) == 10 and proposals[-1].info.get("origin") != "narrower"
    trials = [
        Trial(number=number, architecture=each.architecture, metrics={"loss": 1.0}, state=State.COMPLETE)
        for number, each in enumerate(proposals)
    ]
    random.Random(0).shuffle(trials)
    strategy.tell(trials)
    assert told == trials


def test_names_that_no_decision_has() -> None:
    space = make_space()
    problem = Problem({"loss": "minimize"})
    with pytest.raises(ConfigurationError, match="no decision of the space has a name like"):
        make(space, problem, widths=["*.breadth"])
    only_depth = make_space(exclude=["*.width"])
    assert not narrower(make(only_depth, problem))
