"""Derived networks against brute force: the best sum of log-probabilities under limits, and the list of the best."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Constraint, Problem
from automl_nas_gradient.deriving import Deriver, DeriveSettings


class PlainSpace(SearchSpace):
    def __init__(self, **decisions: Decision) -> None:
        self._decisions = decisions

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        return ()

    def build(self, architecture: Architecture) -> Any:
        raise AssertionError


class Weights(CostModel):
    """The sum of a random whole number for each option; with ``product``, a cost that is not additive."""

    metric: ClassVar[str] = "size"
    unit: ClassVar[str] = "units"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, seed: int, *, product: bool = False) -> None:
        rng = random.Random(seed)
        self._decisions, self._product = space.decisions, product
        self._sizes = {name: [rng.randrange(100) for _ in d.options] for name, d in space.decisions.items()}

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        parts: dict[str, float] = {}
        for name, decision in self._decisions.items():
            value = architecture[name]
            options = value if isinstance(value, tuple) else (value,)
            parts[name] = float(sum(self._sizes[name][decision.position(option)] for option in options))
        return {"": math.prod(parts.values())} if self._product else parts


def choices(count: int = 5, options: int = 4) -> PlainSpace:
    return PlainSpace(**{f"d{number}": Choice(tuple(range(options))) for number in range(count)})


def scores_of(space: SearchSpace, seed: int) -> dict[str, list[float]]:
    rng = random.Random(seed)
    return {name: [math.log(rng.uniform(0.01, 1)) for _ in d.options] for name, d in space.decisions.items()}


def total(space: SearchSpace, scores: Mapping[str, list[float]], architecture: Mapping[str, Any]) -> float:
    result = 0.0
    for name, decision in space.decisions.items():
        value = architecture[name]
        options = value if isinstance(value, tuple) else (value,)
        result += sum(scores[name][decision.position(option)] for option in options)
    return result


def limited(space: SearchSpace, *limits: tuple[float, float], **settings: bool) -> Problem:
    costs = {f"size{n}": Weights(space, n, **settings) for n in range(len(limits))}
    for name, model in costs.items():
        model.metric = name  # type: ignore[misc]
    constraints = [Constraint(f"size{n}", low, high, f"{low}..{high}") for n, (low, high) in enumerate(limits)]
    return Problem({"accuracy": "maximize"}, constraints, costs)


@pytest.mark.parametrize("method", ["exact", "in_order"])
@pytest.mark.parametrize("limits", [[], [(-math.inf, 180.0)], [(150.0, 220.0), (-math.inf, 230.0)]])
def test_the_list_is_that_of_brute_force(method: str, limits: list[tuple[float, float]]) -> None:
    space = choices()
    for seed in range(2):
        problem, scores = limited(space, *limits), scores_of(space, seed)
        feasible = [item for item in enumerate_all(space.decisions) if problem.feasible(item)]
        expected = sorted(feasible, key=lambda item: -total(space, scores, item))[:7]
        derived = Deriver(space, problem, DeriveSettings(method=method, top=7))(scores)  # type: ignore[arg-type]
        assert [each.architecture for each in derived] == expected
        assert all(each.exact for each in derived)
        for each in derived:
            assert each.log_probability == pytest.approx(total(space, scores, each.architecture), abs=1e-9)


def test_the_best_under_limits_is_not_the_best_without_them() -> None:
    space = choices()
    scores = scores_of(space, 0)
    free = Deriver(space, limited(space), DeriveSettings())(scores)[0]
    problem = limited(space, (-math.inf, 150.0))
    bound = Deriver(space, problem, DeriveSettings())(scores)[0]
    assert not problem.feasible(free.architecture)
    assert problem.feasible(bound.architecture)
    assert bound.log_probability < free.log_probability


def test_fewer_architectures_than_asked_for() -> None:
    space = choices(2, 2)
    derived = Deriver(space, limited(space), DeriveSettings(top=10))(scores_of(space, 1))
    assert len(derived) == len({each.architecture for each in derived}) == 4


@pytest.mark.parametrize("top", [1, 5])
def test_subsets(top: int) -> None:
    space = PlainSpace(a=Subset(("p", "q", "r"), min=1), b=Subset((1, 2, 3, 4), min=2, max=2), c=Choice((0, 1)))
    problem = limited(space, (-math.inf, 200.0))
    for seed in range(2):
        scores = scores_of(space, seed)
        feasible = [item for item in enumerate_all(space.decisions) if problem.feasible(item)]
        expected = sorted(feasible, key=lambda item: -total(space, scores, item))[:top]
        derived = Deriver(space, problem, DeriveSettings(top=top))(scores)
        assert [each.architecture for each in derived] == expected


def test_excluded_options_are_never_derived() -> None:
    space = choices()
    problem = limited(space, (-math.inf, 200.0))
    scores = scores_of(space, 2)
    derived = Deriver(space, problem, DeriveSettings(exclude=("0", "3"), top=3))(scores)
    allowed = [a for a in enumerate_all(space.decisions) if problem.feasible(a) and not {0, 3} & set(a.values())]
    expected = sorted(allowed, key=lambda item: -total(space, scores, item))[:3]
    assert [each.architecture for each in derived] == expected


@pytest.mark.parametrize("exclude", [("none",), ("0", "1", "2", "3")])
def test_bad_exclusions_are_refused(exclude: tuple[str, ...]) -> None:
    space = choices()
    with pytest.raises(ConfigurationError, match=r"no decision has the option 'none'|'d0' has no option left"):
        Deriver(space, limited(space), DeriveSettings(exclude=exclude))


def test_a_limit_that_nothing_meets() -> None:
    space = choices()
    problem = limited(space, (-math.inf, -1.0))
    with pytest.raises(InfeasibleError, match=r"no architecture has size0.*relax"):
        Deriver(space, problem, DeriveSettings())
    derive = Deriver(space, problem, DeriveSettings(method="in_order", most_candidates=50))
    with pytest.raises(InfeasibleError, match="none of the 50 most probable architectures"):
        derive(scores_of(space, 0))


def test_a_cost_that_is_not_additive_is_refused_with_the_alternative() -> None:
    space = choices(3)
    problem = limited(space, (-math.inf, 50_000.0), product=True)
    with pytest.raises(ConfigurationError, match=r"size0.*cannot be computed exactly.*method: in_order") as error:
        Deriver(space, problem, DeriveSettings())
    assert error.value.path == "derive.method"
    scores = scores_of(space, 3)
    feasible = [item for item in enumerate_all(space.decisions) if problem.feasible(item)]
    expected = max(feasible, key=lambda item: total(space, scores, item))
    assert Deriver(space, problem, DeriveSettings(method="in_order"))(scores)[0].architecture == expected


def test_no_rejection_draw_is_more_probable() -> None:
    """A space of 4^20, a tight limit: the best of 100,000 uniform feasible draws has a lower sum."""
    space = choices(20)
    problem = limited(space, (-math.inf, 700.0))
    scores = scores_of(space, 5)
    derived = Deriver(space, problem, DeriveSettings())(scores)[0]
    assert problem.feasible(derived.architecture)
    assert derived.exact
    rng = random.Random(0)
    sizes = problem.cost_models["size0"]._sizes  # type: ignore[attr-defined]
    best = -math.inf
    for _ in range(100_000):
        draw = [rng.randrange(4) for _ in range(20)]
        if sum(row[place] for row, place in zip(sizes.values(), draw, strict=True)) <= 700:
            best = max(best, sum(row[place] for row, place in zip(scores.values(), draw, strict=True)))
    assert derived.log_probability >= best > -math.inf
