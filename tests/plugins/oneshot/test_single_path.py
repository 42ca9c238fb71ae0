"""Training a supernet: against a loop written by hand, interrupted, and under constraints."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts, make_space
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.strategies import StrategyContract
from automl_nas.testing.toys import ToyCost, ToySpace, ToyTask
from automl_nas_oneshot.paths import FairPaths, FeasiblePaths, UniformPaths, WideningPaths
from automl_nas_oneshot.single_path import SinglePath

RECIPE = Recipe(epochs=3, learning_rate=0.2, weight_decay=1e-2)  # 15 iterations


def problem(space: Any, limit: str = "<= 1") -> Problem:
    return Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", limit)], {"toy_cost": ToyCost(space)})


@pytest.fixture
def make(space: ModuleSpace, task: ToyTask, runtime: Runtime) -> Callable[..., SinglePath]:
    def build(artifacts: Any, limit: str = "<= 1", **settings: Any) -> SinglePath:
        settings = {"seed": 5, "train": RECIPE, "iterations_per_step": 4, **settings}
        return SinglePath(space, task, runtime, artifacts, problem(space, limit), **settings)

    return build


class TestContract(StrategyContract):
    def make(self, seed: int) -> SinglePath:
        space = make_space()
        settings = {"seed": seed, "train": RECIPE, "iterations_per_step": 4}
        return SinglePath(
            space, ToyTask(train=80), Runtime(device="cpu"), MemoryArtifacts(), problem(space), **settings
        )


def run(strategy: SinglePath, services: Any, steps: int = 100) -> None:
    for _ in range(steps):
        if strategy.done:
            return
        strategy.step(services)


def equal(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_supernet_is_what_a_hand_written_loop_trains(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any], services: Any, space: ModuleSpace, task: ToyTask
) -> None:
    saved = artifacts()
    run(make(saved), services)

    runtime = Runtime(device="cpu")
    with runtime.seeded(5, "init"):
        network = runtime.place(space.build_supernet()).train()
    sides = ([p for p in network.parameters() if p.dim() > 1], [p for p in network.parameters() if p.dim() == 1])
    optimizer = torch.optim.SGD(
        [{"params": sides[0], "weight_decay": 1e-2}, {"params": sides[1], "weight_decay": 0.0}], lr=0.2, momentum=0.9
    )
    iteration = 0
    with torch.random.fork_rng():
        for epoch in range(3):
            for inputs, targets in task.batches("train", epoch, stream_seed(5, "data")):
                for group in optimizer.param_groups:
                    group["lr"] = 0.2 * (1 - iteration / 15)
                path = space.sample(stream(5, "path", iteration))
                torch.manual_seed(stream_seed(5, "step", iteration))  # dropout's
                optimizer.zero_grad()
                loss = F.cross_entropy(network(inputs.to(memory_format=torch.channels_last), path), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                iteration += 1
    assert equal(saved.stored["weights"], network.state_dict())


def test_a_step_logs_and_the_last_one_saves(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any], services: Any
) -> None:
    saved = artifacts()
    strategy = make(saved)
    run(strategy, services, steps=3)
    assert (strategy.done, saved.saved) == (False, 0)
    run(strategy, services)
    assert (strategy.done, saved.saved) == (True, 1)
    assert [step for step, _ in services.logged] == [4, 8, 12, 15]
    assert set(services.logged[0][1]) == {"loss", "learning_rate"}
    # Iteration 11 is the last of the third step; the schedule is linear over 15.
    assert services.logged[2][1]["learning_rate"] == pytest.approx(0.2 * (1 - 11 / 15))


@pytest.mark.parametrize("paths", ["uniform", "fair", "feasible"])
def test_resume_is_bit_equal_inside_an_epoch(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any], services: Any, paths: str
) -> None:
    whole, parts = artifacts(), artifacts()
    run(make(whole, paths=paths), services)
    first = make(parts, paths=paths)
    run(first, services, steps=2)  # 8 of 15 iterations; an epoch has 5
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(parts, paths=paths)
    second.load_state_dict(torch.load(file, weights_only=True))
    run(second, services)
    assert equal(whole.stored["weights"], parts.stored["weights"])


def test_the_steps_length_changes_nothing(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any], services: Any
) -> None:
    short, long = artifacts(), artifacts()
    run(make(short, iterations_per_step=1), services)
    run(make(long, iterations_per_step=50), services)
    assert equal(short.stored["weights"], long.stored["weights"])


def test_paths_are_drawn_uniformly() -> None:
    decisions = {"a": Choice((0, 1, 2)), "b": Subset(("x", "y"))}
    space = DecisionSpace(decisions)
    paths = UniformPaths(space, seed=1)
    seen = Counter(paths(count) for count in range(2400))
    assert set(seen) == set(enumerate_all(decisions))
    # 12 cells, 200 expected of each; chi-square with 11 degrees of freedom exceeds 31.3 for one seed in 1000.
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 31.3
    assert [paths(count) for count in (5, 3)] == [UniformPaths(space, seed=1)(count) for count in (5, 3)]


def test_feasible_paths_are_uniform_among_those_that_meet_the_constraint(space: ModuleSpace) -> None:
    allowed = {a for a in enumerate_all(space.decisions) if problem(space, "1..2").feasible(a)}
    paths = FeasiblePaths(space.decisions, 1, problem(space, "1..2"), 1000)
    seen = Counter(paths(count) for count in range(200 * len(allowed)))
    assert set(seen) == allowed
    assert len(allowed) == 5  # pairs of 0..2 with a sum of 1 or 2
    # Chi-square with 4 degrees of freedom exceeds 18.5 once in 1000 seeds.
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 18.5


def wide_problem(limits: Mapping[str, str]) -> tuple[ToySpace, Problem]:
    """Return a space of 4^6 architectures whose cost is the sum of its options, under some limits."""
    space = ToySpace(blocks=6, options=4)
    models = {name: TabulatedCost(ToyCost(space), space) for name in limits}
    constraints = [parse_constraint(name, limit) for name, limit in limits.items()]
    return space, Problem({"accuracy": "maximize"}, constraints, models)


def test_feasible_paths_of_a_rare_cost_are_drawn_exactly_and_without_rejection() -> None:
    """7 of 4,096 paths are feasible: 1,000 samples would all be rejected in about every fifth pass."""
    space, rare = wide_problem({"toy_cost": ">= 17"})
    allowed = {a for a in enumerate_all(space.decisions) if rare.feasible(a)}
    assert len(allowed) == 7  # the sum of six options 0..3 is 18 once and 17 six times
    paths = FeasiblePaths(space.decisions, 1, rare, 1)
    paths.check(10**9)
    seen = Counter(paths(count) for count in range(200 * len(allowed)))
    assert set(seen) == allowed
    # Chi-square with 6 degrees of freedom exceeds 22.5 once in 1000 seeds.
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 22.5


def test_a_training_that_would_run_out_of_paths_does_not_begin(space: ModuleSpace) -> None:
    """The toy cost is no table here, so paths are drawn by rejection: 6 of 9 meet the limit."""
    paths = FeasiblePaths(space.decisions, 1, problem(space, ">= 2"), 3)
    share = sum(problem(space, ">= 2").feasible(a) for a in enumerate_all(space.decisions)) / 9
    assert share == pytest.approx(6 / 9)
    paths.check(0)
    with pytest.raises(InfeasibleError, match=r"of 2,000 samples .* max_draws to") as caught:
        paths.check(1000)
    percent, missing = re.findall(r"^([\d.]+)% .* about ([\d.]+) of", str(caught.value))[0]
    # Five standard deviations of a share of 2,000 samples are 0.053.
    assert abs(float(percent) / 100 - share) < 0.053
    # 1,000 * (1/3)^3 = 37 passes are expected to find none; the share's error makes it 23 to 57.
    assert 23 < float(missing) < 57


def test_a_constraint_that_no_path_meets_is_known_before_the_training(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any]
) -> None:
    with pytest.raises(InfeasibleError, match=r"none of 200 .* violates 'toy_cost >= 5' by 20.0%"):
        make(artifacts(), limit=">= 5", paths="feasible", max_draws=200)  # 4 is the most there is


def test_fair_paths_use_each_option_once_per_batch(space: ModuleSpace) -> None:
    paths = FairPaths(space, seed=1)
    assert paths.passes == 3
    orders = Counter()
    for iteration in range(600):
        turn = [paths(3 * iteration + place) for place in range(3)]
        for name, decision in space.decisions.items():
            assert {path[name] for path in turn} == set(decision.options)
        orders[tuple(path["1"] for path in turn)] += 1
    # 6 permutations, 100 expected of each; chi-square with 5 degrees of freedom exceeds 20.5 once in 1000 seeds.
    assert len(orders) == 6
    assert sum((n - 100) ** 2 / 100 for n in orders.values()) < 20.5


def test_widths_open_one_after_the_other_and_are_uniform_then() -> None:
    decisions = {"kind": Choice(("a", "b")), "width": Ordinal((8, 16, 32, 64)), "depth": Ordinal((1, 2))}
    space = DecisionSpace(decisions)
    widening, uniform = WideningPaths(space, seed=3, passes=900), UniformPaths(space, seed=3)
    drawn = [widening(count) for count in range(2000)]
    # Of four options a new one each 300 passes; of two the second comes in with pass 900.
    for first, last, open_now in ((0, 300, {64}), (300, 600, {32, 64}), (600, 900, {16, 32, 64})):
        counts = Counter(path["width"] for path in drawn[first:last])
        assert set(counts) == open_now
        # Standard deviation of a count at most 8.7: 45 is over five of them.
        assert all(abs(count - 300 / len(open_now)) < 45 for count in counts.values())
    assert {path["depth"] for path in drawn[:900]} == {2}
    assert {path["kind"] for path in drawn[:300]} == {"a", "b"}
    assert drawn[900:] == [uniform(count) for count in range(900, 2000)]
    assert {path["width"] for path in drawn[900:]} == {8, 16, 32, 64}
    assert widening(17) == WideningPaths(space, seed=3, passes=900)(17)  # a function of the number alone


def test_widening_is_refused_where_it_means_nothing(
    make: Callable[..., SinglePath], artifacts: Callable[..., Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"widen_epochs: none of the decisions .* is an Ordinal"):
        make(artifacts(), widen_epochs=1)
    with pytest.raises(ConfigurationError, match=r"widen_epochs: must be between 0 and train\.epochs .2., not 3"):
        make(artifacts(), widen_epochs=3, train=Recipe(epochs=2))
    with pytest.raises(ConfigurationError, match=r"widen_epochs: .* paths: uniform, not fair"):
        make(artifacts(), widen_epochs=1, paths="fair")


def test_wrong_settings_are_refused(make: Callable[..., SinglePath], artifacts: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="iterations_per_step"):
        make(artifacts(), iterations_per_step=0)
    with pytest.raises(ConfigurationError, match="max_draws"):
        make(artifacts(), paths="feasible", max_draws=0)
    with pytest.raises(ConfigurationError, match="equal numbers of options"):
        FairPaths(DecisionSpace({"a": Choice((0, 1)), "b": Choice((0, 1, 2))}), seed=1)
    with pytest.raises(ConfigurationError, match="equal numbers of options"):
        FairPaths(DecisionSpace({"a": Subset((0, 1))}), seed=1)


def test_a_shortened_stage_keeps_its_proportions() -> None:
    settings = {"train": asdict(Recipe(epochs=120, warmup_epochs=5.0)), "widen_epochs": 40, "swa_epochs": 0}
    shortened = SinglePath.shortened(settings, 0.26)
    assert shortened.share == 31 / 120
    assert shortened.settings["train"]["epochs"] == 31
    assert shortened.settings["widen_epochs"] == round(40 * 31 / 120)
    least = SinglePath.shortened(settings, 1e-9)
    assert (least.settings["train"]["epochs"], least.settings["widen_epochs"]) == (1, 1)
    assert SinglePath.shortened({**settings, "widen_epochs": 0}, 0.5).settings.keys() == {"train"}
