"""Paths drawn by their costs: in bins, and under several constraints at once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from plugins.oneshot.conftest import MemoryArtifacts
from plugins.oneshot.test_single_path import RECIPE, equal, problem, run
from scipy.stats import chisquare

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import CostModel, Runtime, TabulatedCost
from automl_nas.evaluation.costs import joint_counting
from automl_nas.space import Architecture, ModuleSpace, enumerate_all
from automl_nas.strategy import Problem, parse_constraint
from automl_nas.testing import ToyCost, ToySpace, ToyTask
from automl_nas_oneshot.paths import BinnedPaths, FeasiblePaths
from automl_nas_oneshot.single_path import SinglePath

SPACE = ToySpace(blocks=4, options=3)
"""81 paths; the toy cost is the sum of the options."""


class First(ToyCost):
    """Counts the first two decisions only."""

    def breakdown(self, architecture: Architecture) -> Any:
        return {name: float(architecture[name]) for name in ("d0", "d1")}  # type: ignore[arg-type]


class Product(ToyCost):
    """Is not additive."""

    def breakdown(self, architecture: Architecture) -> Any:
        return {"": float(architecture["d0"]) * float(architecture["d1"])}  # type: ignore[arg-type]


def costed(*limits: tuple[type[CostModel], str]) -> Problem:
    models = {kind.__name__.lower(): TabulatedCost(kind(SPACE), SPACE) for kind, _ in limits}  # type: ignore[call-arg]
    constraints = [parse_constraint(kind.__name__.lower(), limit) for kind, limit in limits if limit]
    return Problem({"accuracy": "maximize"}, constraints, models)


def test_a_bin_is_drawn_first_and_then_a_path_in_it() -> None:
    """A chi-squared test at the level 0.001, with a fixed seed: bins of 5, 35 and 1 paths are drawn equally often."""
    bins = [range(2), range(3, 5), range(8, 9)]
    paths = BinnedPaths(3, costed((ToyCost, "")), {"toycost": [f"{each[0]}..{each[-1]}" for each in bins]})
    members = [[a for a in enumerate_all(SPACE.decisions) if sum(a.values()) in each] for each in bins]  # type: ignore[arg-type]
    assert [len(each) for each in members] == [5, 35, 1]
    count = 3 * 35 * 20
    seen = Counter(paths(number) for number in range(count))
    assert set(seen) == set(itertools.chain(*members))
    wanted = [count / 3 / len(each) for each in members for _ in each]
    assert chisquare([seen[a] for each in members for a in each], wanted).pvalue > 0.001
    again = BinnedPaths(3, costed((ToyCost, "")), {"toycost": [f"{each[0]}..{each[-1]}" for each in bins]})
    assert [again(number) for number in (7, 3)] == [paths(7), paths(3)]


def test_several_constraints_are_met_without_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = costed((ToyCost, ">= 5"), (First, "<= 1"))
    allowed = [a for a in enumerate_all(SPACE.decisions) if limits.feasible(a)]
    assert len(allowed) == 2
    paths = FeasiblePaths(SPACE.decisions, 1, limits, draws=1)
    assert paths.exact
    paths.check(10**9)
    seen = Counter(paths(number) for number in range(400))
    assert set(seen) == set(allowed)
    assert chisquare([seen[a] for a in allowed]).pvalue > 0.001
    # With too many distinct costs one constraint is met by construction, and the other one by rejection.
    monkeypatch.setattr(joint_counting, "MOST_PAIRS", 1)
    rejecting = FeasiblePaths(SPACE.decisions, 1, limits, draws=100)
    assert not rejecting.exact
    seen = Counter(rejecting(number) for number in range(400))
    assert set(seen) == set(allowed)
    assert chisquare([seen[a] for a in allowed]).pvalue > 0.001
    with pytest.raises(InfeasibleError, match=r"together with .* the nearest toy_cost below is 5"):
        monkeypatch.undo()
        FeasiblePaths(SPACE.decisions, 1, costed((ToyCost, ">= 6"), (First, "<= 1")), draws=1)


@pytest.mark.parametrize(
    ("bins", "error", "message"),
    [
        ({}, ConfigurationError, r"bins: needs one cost with its intervals"),
        ({"toycost": []}, ConfigurationError, r"bins\.toycost: needs at least one interval"),
        ({"toy_cost": ["1..2"]}, ConfigurationError, r"bins\.toy_cost: .* no cost 'toy_cost'; did you mean 'toycost'"),
        ({"toycost": ["1..2", "2-3"]}, ConfigurationError, r"^bins\.toycost\[1\]: cannot read the constraint '2-3'"),
        ({"toycost": ["3..1"]}, ConfigurationError, r"^bins\.toycost\[0\]: .* lower bound above its upper"),
        ({"toycost": ["1..2", "8.5..9"]}, InfeasibleError, r"^bins\.toycost\[1\]: .* the nearest cost below is 8"),
        ({"product": ["1..2"]}, ConfigurationError, r"bins\.product: .* not additive .* set paths: feasible"),
    ],
)
def test_wrong_bins_are_refused(bins: dict[str, list[str]], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        BinnedPaths(1, costed((ToyCost, ""), (Product, "")), bins)


@pytest.fixture
def make(space: ModuleSpace, task: ToyTask, runtime: Runtime) -> Callable[..., SinglePath]:
    def build(artifacts: Any, **settings: Any) -> SinglePath:
        limited = problem(space)
        tabulated = Problem({"accuracy": "maximize"}, (), {"toy_cost": TabulatedCost(ToyCost(space), space)})
        settings = {"seed": 5, "train": RECIPE, "iterations_per_step": 4, **settings}
        return SinglePath(space, task, runtime, artifacts, tabulated if "bins" in settings else limited, **settings)

    return build


def test_a_training_in_bins_resumes_bit_for_bit(make: Callable[..., SinglePath], services: Any) -> None:
    whole, parts = MemoryArtifacts(), MemoryArtifacts()
    settings: dict[str, Any] = {"paths": "bins", "bins": {"toy_cost": ["0..1", ">= 0.9 * largest"]}}
    run(make(whole, **settings), services)
    first = make(parts, **settings)
    run(first, services, steps=2)
    second = make(parts, **settings)
    second.load_state_dict(first.state_dict())
    run(second, services)
    assert equal(whole.stored["weights"], parts.stored["weights"])


def test_bins_and_their_rule_belong_together(make: Callable[..., SinglePath]) -> None:
    for settings in ({"paths": "bins"}, {"bins": {"toy_cost": ["0..1"]}}):
        with pytest.raises(ConfigurationError, match=r"bins: paths: bins and the setting bins, .* belong together"):
            make(MemoryArtifacts(), **settings)
