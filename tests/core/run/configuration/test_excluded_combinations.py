"""Runs in a space that excludes combinations of options: no network of an excluded architecture is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import automl_nas
from automl_nas.errors import AutoMLNASError, ConfigurationError
from automl_nas.evaluation import TabulatedCost
from automl_nas.run.configuration.combinations import check_combinations
from automl_nas.run.configuration.identity import describe_space, space_difference
from automl_nas.space import Architecture, Choice, Decision, ModuleSpace, OneOf, SearchSpace, enumerate_all
from automl_nas.strategy import Problem
from automl_nas.strategy.feasible_sampler import FeasibleSampler
from automl_nas.streams import stream
from automl_nas.testing import ToyTask

UNEQUAL = ({"first": "narrow", "last": "wide"}, {"first": "wide", "last": "narrow"})


def conv(channels: int, out: int) -> nn.Module:
    return nn.Conv2d(channels, out, 3, padding=1)


def untied() -> nn.Module:
    """Return a network whose two widths must be equal, although they are two decisions."""
    return nn.Sequential(
        OneOf({"narrow": conv(1, 4), "wide": conv(1, 8)}, name="first"),
        OneOf({"relu": nn.ReLU(), "none": nn.Identity()}, name="between"),
        OneOf({"narrow": conv(4, 2), "wide": conv(8, 2)}, name="last"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 3),
    )


def space(*, exclude: Any = UNEQUAL) -> ModuleSpace:
    return ModuleSpace(untied, input_shape=(1, 4, 4), exclude=exclude)


def equal_widths(architecture: Mapping[str, Any]) -> bool:
    return bool(architecture["first"] == architecture["last"])


def test_the_error_names_the_combination_to_exclude() -> None:
    """It can be copied: with it, and with that of the next error, the space passes."""
    excluded: list[dict[str, str]] = []
    for _ in UNEQUAL:
        with pytest.raises(ConfigurationError, match=r"can be excluded: ModuleSpace\(..., exclude=\[\{") as caught:
            check_combinations(space(exclude=excluded), 64, "space")
        text = str(caught.value).split("exclude=[")[1].split("]")[0]
        excluded.append(eval(text, {"__builtins__": {}}))  # noqa: S307 - a literal of the message
    assert sorted(map(str, excluded)) == sorted(map(str, UNEQUAL))
    check_combinations(space(exclude=excluded), 64, "space")


class Triple(SearchSpace):
    """A space of four decisions in which one combination of three options does not run."""

    def __init__(self, excluded: tuple[Mapping[str, object], ...] = ()) -> None:
        self._excluded = excluded
        self.built: list[Architecture] = []

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return {f"d{position}": Choice((0, 1)) for position in range(4)}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1, 4, 4)

    @property
    def excluded(self) -> tuple[Mapping[str, object], ...]:
        return self._excluded

    def build(self, architecture: Architecture) -> nn.Module:
        self.built.append(architecture)
        wrong = (architecture["d0"], architecture["d1"], architecture["d3"]) == (1, 0, 1)
        return nn.Sequential(conv(2 if wrong else 1, 2), nn.Flatten(), nn.Linear(32, 3))


def test_a_combination_of_three_is_reduced_to_the_three() -> None:
    with pytest.raises(ConfigurationError, match=r"1 of 'd0' and 0 of 'd1' and 1 of 'd3' do not fit together"):
        check_combinations(Triple(), 64, "space")
    excluding = Triple(({"d0": 1, "d1": 0, "d3": 1},))
    check_combinations(excluding, 64, "space")
    assert excluding.built
    assert all(map(excluding.exclusions.allows, excluding.built))


def test_costs_are_not_asked_for_excluded_networks() -> None:
    """Params of the four networks that exist, by hand; the others cost infinity, and no table is made of them."""
    from automl_nas_costs.models import Params

    excluding = space()
    cost = TabulatedCost(Params(excluding), excluding)
    expected = {"narrow": (9 + 1) * 4 + (4 * 9 + 1) * 2 + 9, "wide": (9 + 1) * 8 + (8 * 9 + 1) * 2 + 9}
    for architecture in enumerate_all(excluding.decisions):
        value = cost.estimate(architecture)
        assert value == (expected[architecture["first"]] if equal_widths(architecture) else float("inf"))
    assert cost.table is None
    assert "excludes" in cost.reason
    ends = cost.extremes()
    assert (ends.smallest_value, ends.largest_value) == (expected["narrow"], expected["wide"])


def test_no_excluded_architecture_is_feasible() -> None:
    excluding = space()
    problem = Problem({"accuracy": "maximize"}, exclusions=excluding.exclusions)
    for architecture in enumerate_all(excluding.decisions):
        assert problem.feasible(architecture) is equal_widths(architecture)
        assert problem.violations(architecture) == {"excluded combinations <= 0": float(not equal_widths(architecture))}
    sampler = FeasibleSampler(excluding, problem, 1)
    taken: set[Architecture] = set()
    for number in range(4):
        drawn = sampler.draw(stream(0, "x", number), taken)
        assert drawn is not None
        assert equal_widths(drawn)
        taken.add(drawn)
    assert sampler.draw(stream(0, "x", 4), taken) is None


SUPERNET = {"name": "single_path", "train": {"epochs": 1}}
INHERITED = {"name": "inherited", "weights": "supernet", "recalibration_images": 16}


@pytest.mark.parametrize("strategy", ["random", "evolution", "aging", "local_search", "surrogate", "optuna"])
def test_a_whole_run(tmp_path: Path, strategy: str, caplog: pytest.LogCaptureFixture) -> None:
    """The supernet is trained on allowed paths; only allowed networks are evaluated, compared and delivered."""
    result = automl_nas.search(
        space=space(),
        task=ToyTask(),
        runtime={"device": "cpu", "threads": 1},
        stages=[
            {"name": "supernet", "strategy": SUPERNET},
            {"name": "search", "strategy": strategy, "evaluator": INHERITED, "budget": {"trials": 3}},
        ],
        final={"train": {"epochs": 1}, "baselines": ["largest", "random"]},
        out=tmp_path / "run",
    )
    trials = [json.loads(line) for line in (tmp_path / "run" / "trials.jsonl").read_text().splitlines()]
    trials = [trial for trial in trials if "state" in trial]
    assert len(trials) == 3
    assert all(equal_widths(trial["architecture"]) for trial in trials)
    assert {trial["state"] for trial in trials} == {"complete"}
    assert not result.shortcomings
    assert equal_widths(result.architecture)
    assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": "fair"}, "paths: the space excludes combinations of options, and the m paths"),
        ({"widen_epochs": 1}, "widen_epochs: the space excludes combinations of options, and a few open"),
    ],
)
def test_paths_that_cannot_avoid_them(tmp_path: Path, settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(AutoMLNASError, match=message):
        automl_nas.search(
            space=space(),
            task=ToyTask(),
            stages=[{"name": "supernet", "strategy": {**SUPERNET, **settings}}],
            final=None,
            out=tmp_path / "run",
        )
    assert not (tmp_path / "run").exists()


def test_exclusions_are_a_part_of_what_a_space_is() -> None:
    without, with_one = (describe_space(space(exclude=given)) for given in (UNEQUAL, UNEQUAL[:1]))
    assert space_difference(without, without) == ""
    assert "excluded combinations of options were" in space_difference(without, with_one)
