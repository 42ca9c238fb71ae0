"""Settings that a constructor would refuse are refused while the configuration is checked, in every stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.failing_candidates import Free
from end_to_end.runs import small_space

import automl_nas
from automl_nas.errors import ConfigurationError, InfeasibleError, PluginError
from automl_nas.evaluation import Artifacts, Evaluator
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.space import SearchSpace
from automl_nas.strategy import Services, Strategy
from automl_nas.streams import stream_seed
from automl_nas.testing.checkers import require_checker
from automl_nas.testing.toys import ToySpace, ToyTask


class Heavy(Strategy):
    """A strategy whose constructor must not be called while the configuration is checked."""

    constructed: list[int] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, space: SearchSpace, *, seed: int, depth: int = 3, wide: bool = False) -> None:
        self.constructed.append(depth)
        _judge(space, seed=seed, depth=depth)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        return _judge

    def step(self, services: Services) -> None:
        """Nothing to do."""

    @property
    def done(self) -> bool:
        return True

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to load."""


asked: list[tuple[SearchSpace, int, int]] = []


def _judge(space: SearchSpace, *, seed: int, depth: int) -> None:
    torch.rand(1)
    asked.append((space, seed, depth))
    if depth > 5:
        raise ConfigurationError(f"at most 5, not {depth}", path="depth")


class Mistaken(Heavy):
    @classmethod
    def checker(cls) -> Callable[..., object]:
        return _other


def _other(*, height: int) -> None:
    """Has a setting that the constructor does not have."""


class Storing(Heavy):
    @classmethod
    def checker(cls) -> Callable[..., object]:
        return _store


def _store(artifacts: Artifacts) -> None:
    raise AssertionError("there are no artifacts before a run")


class Seeded(Free):
    """An evaluator that records the seeds with which it is checked and constructed."""

    seeds: list[tuple[str, int]] = []  # noqa: RUF012 - shared on purpose

    def __init__(self, space: SearchSpace, *, seed: int, share: float = 0.5) -> None:
        super().__init__(space)
        self.seeds.append(("constructed", seed))

    @classmethod
    def checker(cls) -> Callable[..., object]:
        return _check_share


def _check_share(*, seed: int, share: float) -> None:
    Seeded.seeds.append(("checked", seed))
    if share > 1:
        raise ConfigurationError(f"at most 1, not {share}", path="share")


class Holding(Heavy):
    """A strategy with evaluators inside, which its checker does not take."""

    def __init__(self, space: SearchSpace, *, seed: int, depth: int = 3, held: dict[str, list[Evaluator]]) -> None:
        super().__init__(space, seed=seed, depth=depth)


def sections(strategy: Any, **others: Any) -> dict[str, Any]:
    """Return a configuration whose second stage has this strategy."""
    stages = [
        {"name": "first", "strategy": "random", "evaluator": Free, "budget": {"trials": 1}},
        {"name": "second", "strategy": strategy, "evaluator": Free},
    ]
    return {"space": small_space(), "problem": {"objectives": {"accuracy": "maximize"}}, "stages": stages, **others}


def plan(strategy: Any, *, checked: bool = False, **others: Any) -> Plan:
    return make_plan(sections(strategy, **others), complete_manager().registry, checked=checked)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"name": "evolution", "population": 0}, r"stages\[1\].strategy.population: .* at least 1, not 0"),
        ({"name": "aging", "sample_size": 0}, r"stages\[1\].strategy.sample_size: .* at least 1"),
        ({"name": "surrogate", "parents": 0}, r"stages\[1\].strategy.parents: .* at least 1"),
        ({"name": "optuna", "draws": 0}, r"stages\[1\].strategy.draws: .* at least 1"),
        (
            {"name": "retry", "strategy": {"name": "deduplicate", "strategy": {"name": "evolution", "top_k": 0}}},
            r"stages\[1\].strategy.strategy.strategy.top_k: .* at least 1",
        ),
        ({"name": Heavy, "depth": 6}, r"stages\[1\].strategy.depth: at most 5, not 6"),
    ],
)
def test_a_later_stage_s_strategy_is_refused_before_the_first_begins(
    strategy: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        automl_nas.search(sections(strategy), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iterations_per_step": 0}, r"stages\[0\].strategy.iterations_per_step"),
        ({"paths": "feasible", "max_draws": 0}, r"stages\[0\].strategy.max_draws"),
    ],
)
def test_training_a_supernet_is_refused_before_it_is_built(settings: dict[str, Any], message: str) -> None:
    stage = {"name": "supernet", "strategy": {"name": "single_path", **settings}}
    limit = {"costs": ["flops"], "constraints": {"flops": "<= 0.9 * largest"}}
    with pytest.raises(ConfigurationError, match=message):
        plan("random", task="digits", problem=limit, stages=[stage], final=None)


def test_limits_that_can_only_be_met_alone() -> None:
    limit = {"costs": ["flops", "params"], "constraints": {"flops": "<= 0.3 * largest", "params": ">= 0.99 * largest"}}
    with pytest.raises(InfeasibleError, match=r"^problem\.constraints: .* though each limit can be met alone"):
        plan("random", task="digits", problem=limit, final=None)


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        ({"name": "train", "data": "train+search"}, r"stages\[1\].evaluator.data: .* cannot be scored on the split"),
        ({"name": "train", "report_epochs": 0}, r"stages\[1\].evaluator.report_epochs: .* at least 1"),
        ({"name": "inherited", "cache_megabytes": -1.0}, r"stages\[1\].evaluator.cache_megabytes: .* at least 0"),
    ],
)
def test_an_evaluator_is_refused_before_the_supernet_is_trained(evaluator: dict[str, Any], message: str) -> None:
    stages = [
        {"name": "supernet", "strategy": "single_path"},
        {"name": "search", "strategy": "random", "evaluator": evaluator},
    ]
    with pytest.raises(ConfigurationError, match=message):
        plan("random", task="digits", problem={"costs": []}, stages=stages)


def test_an_exporter_is_refused_before_any_training() -> None:
    export = ["safetensors", {"name": "pt2", "tolerance": -1.0}]
    with pytest.raises(ConfigurationError, match="tolerance is a fraction of the largest output"):
        plan("random", task="digits", final={"export": export})


def test_a_checker_gets_the_arguments_of_the_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same space, settings and seed; no network is built, and the global generator does not change."""
    monkeypatch.setattr(Heavy, "constructed", [])
    asked.clear()
    before = torch.get_rng_state()
    planned = plan({"name": Heavy, "depth": 4}, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert Heavy.constructed == []
    assert asked == [(planned.space, stream_seed(7, "second"), 4)]
    automl_nas.search(sections({"name": Heavy, "depth": 4}, seed=7))
    (_, seed, depth), in_constructor = asked[1], asked[2]
    assert (seed, depth) == in_constructor[1:] == (stream_seed(7, "second"), 4)


@pytest.mark.parametrize("strategy", [Storing, Heavy(small_space(), seed=1)])
def test_the_checker_is_skipped_without_its_collaborators_or_for_an_object(strategy: Any) -> None:
    """A checker that needs artifacts; a strategy that is constructed already."""
    count = len(asked)
    plan(strategy)
    assert len(asked) == count


def test_components_inside_are_checked_as_they_are_constructed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seeded, "seeds", [])
    inside = {"name": Holding, "held": {"a": [{"name": Seeded}, {"name": Seeded, "share": 0.1}]}}
    automl_nas.search(sections(inside, seed=7))
    checked, constructed = (
        [seed for what, seed in Seeded.seeds if what == each] for each in ("checked", "constructed")
    )
    assert checked == constructed
    assert len(set(checked)) == 2


def test_a_component_inside_is_refused_with_its_place() -> None:
    inside = {"name": Holding, "held": {"a": [{"name": Seeded}, {"name": Seeded, "share": 2.0}]}}
    with pytest.raises(ConfigurationError, match=r"stages\[1\]\.strategy\.held\.a\[1\]\.share: at most 1, not 2\.0"):
        plan(inside)


def test_a_checked_configuration_is_not_checked_again() -> None:
    plan({"name": Heavy, "depth": 6}, checked=True)


def test_a_checker_with_an_unknown_setting_is_a_plugin_error() -> None:
    with pytest.raises(
        PluginError, match=r"stages\[1\].strategy: the checker of .*Mistaken' asks for 'height', which is not a setting"
    ):
        plan(Mistaken)
    with pytest.raises(AssertionError, match="the constructor has no parameter 'height'"):
        require_checker(Mistaken)


def test_the_contract_refuses_a_checker_of_another_signature() -> None:
    def check(*, depth: float) -> None:
        """The constructor has another type."""

    class Typed(Heavy):
        @classmethod
        def checker(cls) -> Callable[..., object]:
            return check

    with pytest.raises(AssertionError, match="'depth' is"):
        require_checker(Typed)


class Inheriting(Free):
    def __init__(self, space: SearchSpace, *, weights: str) -> None:
        super().__init__(space)


def unannotated(space: SearchSpace):  # type: ignore[no-untyped-def]
    return Free(space)


def annotated(space: SearchSpace) -> Free:
    return Free(space)


def test_a_function_that_makes_a_component_needs_a_return_annotation() -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": annotated, "budget": {"trials": 1}}
    assert plan("random", stages=[stage]).stages[0].problem.objectives == {"accuracy": "maximize"}
    stage["evaluator"] = unannotated
    with pytest.raises(
        PluginError, match=r"stages\[0\].evaluator: .*unannotated' needs a return annotation: the Evaluator"
    ):
        plan("random", stages=[stage])


def test_fine_tuning_needs_weights_and_a_space_that_has_a_supernet() -> None:
    with pytest.raises(ConfigurationError, match="'second' has no evaluator with inherited weights"):
        plan("random", task="digits", final={"weights": "inherited"})
    stages = [
        {"name": "first", "strategy": "random", "evaluator": Free, "budget": {"trials": 1}},
        {"name": "second", "strategy": "random", "evaluator": {"name": Inheriting, "weights": "first"}},
    ]
    with pytest.raises(ConfigurationError, match=r"final.weights: .* ToySpace is not a SupernetSpace"):
        plan("random", space=ToySpace(), task=ToyTask(), stages=stages, final={"weights": "inherited"})
