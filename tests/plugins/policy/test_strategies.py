"""The strategies: contracts, learning, limits, bad input, a run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import automl_nas
from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.evaluation.evaluator import State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Trial
from automl_nas.testing.artifacts import MemoryArtifacts
from automl_nas.testing.ask_tell import AskTellContract
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.strategies import StrategyContract
from automl_nas.testing.toy_supernet import toy_supernet_space
from automl_nas.testing.toys import ToyCost, ToySpace, ToyTask
from automl_nas_policy.enas import Enas
from automl_nas_policy.learner import LearnerSettings
from automl_nas_policy.policies import PolicySettings
from automl_nas_policy.ppo import Ppo
from automl_nas_policy.reinforce import Reinforce

PROBLEM = Problem({"accuracy": "maximize"})
FAST = LearnerSettings(learning_rate=0.3, baseline_decay=0.9)


class TestReinforce(AskTellContract):
    exhaustive = False
    several_objectives = False
    trials = 40

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return Reinforce(space, problem, seed=seed, samples=2, learner=FAST, repeats=200)


class TestPpo(AskTellContract):
    exhaustive = False
    several_objectives = False
    trials = 40
    search_length = 80

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        return Ppo(
            space, problem, seed=seed, samples=4, policy=PolicySettings(hidden=2), learner=FAST, passes=2, repeats=200
        )


def enas(problem: Problem = PROBLEM, task: Any = None, seed: int = 5, **given: Any) -> Enas:
    settings: dict[str, Any] = {
        "train": Recipe(epochs=2, learning_rate=0.05, schedule="cosine"),
        "policy": PolicySettings(hidden=4, temperature=5.0, tanh_constant=2.5),
        "learner": FAST,
        "controller_steps": 3,
        "samples": 2,
        "candidates": 1,
        "final_candidates": 2,
        "recalibration_images": 16,
        "iterations_per_step": 3,
        **given,
    }
    return Enas(
        toy_supernet_space(),
        task or ToyTask(train=80, search=48),
        Runtime(device="cpu"),
        MemoryArtifacts(),
        problem,
        seed=seed,
        **settings,
    )


class TestEnas(StrategyContract):
    steps = 9  # two epochs of two steps of the weights and one of the controller, and three candidates

    def make(self, seed: int) -> Any:
        return enas(seed=seed)

    def services(self) -> SimulatedServices:
        return simulated()


def simulated(problem: Problem = PROBLEM) -> SimulatedServices:
    return SimulatedServices(lambda number, p: finished(problem, number, p, {"accuracy": 0.5}), problem=problem)


def told(search: AskTellStrategy, problem: Problem, metric: Any, trials: int) -> list[Trial]:
    """Let a search propose and learn one candidate at a time."""
    done: list[Trial] = []
    while len(done) < trials and (proposals := search.ask(1)):
        trial = finished(problem, len(done), proposals[0], {"accuracy": metric(proposals[0].architecture)})
        search.tell([trial])
        done.append(trial)
    return done


def share_of_largest(architecture: Architecture) -> float:
    space = ToySpace()
    values = [decision.encode(architecture[name])[0] for name, decision in space.decisions.items()]
    return float(sum(values))


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("kind", [Reinforce, Ppo])
def test_later_candidates_are_better(kind: Any, direction: Any) -> None:
    problem = Problem({"accuracy": direction})
    sign = 1 if direction == "maximize" else -1
    settings = {"learner": LearnerSettings(learning_rate=0.05, baseline_decay=0.9), "duplicates": True}
    search = kind(ToySpace(), problem, seed=0, **settings)
    trials = told(search, problem, share_of_largest, 200)
    rewards = [sign * trial.metrics["accuracy"] for trial in trials]
    spread = max(rewards) - min(rewards)
    assert sum(rewards[-40:]) / 40 > sum(rewards[:40]) / 40 + 0.25 * spread


def test_all_candidates_of_a_batch_come_from_the_same_policy() -> None:
    search = Ppo(ToySpace(), PROBLEM, seed=0, samples=5, policy=PolicySettings(hidden=4))
    proposals = search.ask(100)
    assert 1 <= len(proposals) <= 5
    assert search.ask(100) == [], "it waits for the rewards of the batch"
    assert {proposal.info["update"] for proposal in proposals} == {0}
    search.tell([finished(PROBLEM, n, each, {"accuracy": float(n)}) for n, each in enumerate(proposals)])
    assert {proposal.info["update"] for proposal in search.ask(1)} == {1}


def test_a_measured_architecture_is_not_proposed_again_but_counts() -> None:
    search = Reinforce(ToySpace(), PROBLEM, seed=0, samples=3, learner=FAST)
    trials = told(search, PROBLEM, share_of_largest, 10_000)
    keys = [ToySpace().canonical(trial.architecture) for trial in trials]
    assert len(set(keys)) == len(keys)
    assert search._learner.updates * 3 > len(trials), "repeated draws are samples of the policy, too"
    assert search.done is False or search.ask(1) == []


@pytest.mark.parametrize("state", [State.FAILED, State.PRUNED])
def test_failed_candidates_have_the_smallest_reward(state: State) -> None:
    search = Reinforce(ToySpace(), PROBLEM, seed=0, samples=1, learner=FAST)
    (first,) = search.ask(1)
    search.tell([Trial(0, first.architecture, state=state, error="x")])
    assert search._learner.updates == 0, "nothing is learned before there is a reward"
    (second,) = search.ask(1)
    search.tell([finished(PROBLEM, 1, second, {"accuracy": 0.7})])
    (third,) = search.ask(1)
    search.tell([Trial(2, third.architecture, state=state, error="x")])
    assert search._rewards[ToySpace().canonical(third.architecture)] == 0.7
    assert search._learner.updates == 2


def test_a_batch_of_which_all_fail_ends() -> None:
    search = Ppo(ToySpace(), PROBLEM, seed=0, samples=4, policy=PolicySettings(hidden=4), repeats=50)
    count = 0
    while proposals := search.ask(4):
        search.tell(
            [Trial(count + n, each.architecture, state=State.FAILED, error="x") for n, each in enumerate(proposals)]
        )
        count += len(proposals)
    assert 1 <= count <= ToySpace().size


def test_rewards_are_raised_to_a_power() -> None:
    search = Reinforce(ToySpace(), PROBLEM, seed=0, reward_exponent=3.0)
    (proposal,) = search.ask(1)
    search.tell([finished(PROBLEM, 0, proposal, {"accuracy": -0.5})])
    assert list(search._rewards.values()) == [-0.125]


def limited(space: Any, text: str) -> Problem:
    return Problem(
        {"accuracy": "maximize"},
        [parse_constraint("toy_cost", text)],
        {"toy_cost": TabulatedCost(ToyCost(space), space)},
    )


def test_every_candidate_meets_the_limits(caplog: pytest.LogCaptureFixture) -> None:
    """Also if the policy never meets them: then random candidates do, and that is said."""
    space = ToySpace()
    costs = sorted(ToyCost(space).estimate(space.sample(__import__("random").Random(n))) for n in range(200))
    problem = limited(space, f"<= {costs[20]}")
    for attempts in (1, 1000):
        search = Reinforce(space, problem, seed=0, learner=FAST, attempts=attempts)
        trials = told(search, problem, share_of_largest, 30)
        assert trials and all(trial.feasible for trial in trials)
    assert "the policy does not learn from it" in caplog.text
    with pytest.raises(InfeasibleError):
        Reinforce(space, limited(space, "<= -1"), seed=0, attempts=5).ask(1)


@pytest.mark.parametrize(
    ("kind", "settings", "path"),
    [
        (Reinforce, {"samples": 0}, "samples"),
        (Reinforce, {"repeats": 0}, "repeats"),
        (Reinforce, {"attempts": 0}, "attempts"),
        (Reinforce, {"reward_exponent": 0.0}, "reward_exponent"),
        (Ppo, {"clip": 0.0}, "clip"),
        (Ppo, {"passes": 0}, "passes"),
    ],
)
def test_settings_out_of_range(kind: Any, settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind(ToySpace(), PROBLEM, seed=0, **settings)
    assert caught.value.path == path


def test_several_objectives_are_refused() -> None:
    problem = Problem({"accuracy": "maximize", "toy_cost": "minimize"}, costs={"toy_cost": ToyCost(ToySpace())})
    with pytest.raises(ConfigurationError, match="one reward"):
        Reinforce(ToySpace(), problem, seed=0)


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"controller_steps": 0}, "controller_steps"),
        ({"samples": 0}, "samples"),
        ({"candidates": -1}, "candidates"),
        ({"final_candidates": 0}, "final_candidates"),
        ({"recalibration_images": -1}, "recalibration_images"),
        ({"iterations_per_step": 0}, "iterations_per_step"),
        ({"attempts": 0}, "attempts"),
    ],
)
def test_settings_of_enas_out_of_range(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        enas(**settings)
    assert caught.value.path == path


def test_enas_finds_before_the_run_that_no_network_meets_a_limit() -> None:
    with pytest.raises(InfeasibleError):
        enas(limited(toy_supernet_space(), "<= -1"), attempts=3)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_rewards_change_no_weight_and_no_statistic(statistics: Any) -> None:
    strategy = enas(statistics=statistics, reward="loss")
    before = {name: tensor.clone() for name, tensor in strategy._supernet.state_dict().items()}
    architectures = [strategy._draw("path", n) for n in range(3)]
    first = strategy._reward(architectures, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in strategy._supernet.state_dict().items())
    strategy._reward.rewind()
    assert strategy._reward(architectures[:1], 0) == first[:1], "a reward does not depend on the others"


def test_a_reward_is_the_accuracy_of_the_extracted_network_on_the_batch() -> None:
    strategy = enas()
    architecture = strategy._draw("path", 0)
    rewards = strategy._reward([architecture], 0)
    strategy._reward.rewind()
    images, labels = strategy._reward._batches.take(0)
    network = strategy._supernet.extract(architecture).train()
    with torch.no_grad():
        outputs = network(images.to(memory_format=torch.channels_last))
    assert rewards == [pytest.approx((outputs.argmax(1) == labels).float().mean().item(), abs=1e-7)]


def test_enas_records_its_candidates_and_the_last_ones_decide() -> None:
    services, strategy = simulated(), enas(candidates=2, final_candidates=3)
    while not strategy.done:
        strategy.step(services)
    trials = services.trials()
    assert [trial.fidelity for trial in trials] == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert strategy.planned == len(trials)
    best = PROBLEM.best(trials)
    assert best is not None and best.fidelity == 2.0
    assert {"loss", "learning_rate", "reward", "entropy"} <= {name for _, values in services.logged for name in values}
    done, total, unit = services.progressed[-1]
    assert done == total and unit == "forward passes"
    assert all(math.isfinite(value) for trial in trials for value in trial.metrics.values())


@pytest.mark.slow
def test_a_run_with_enas_and_one_with_reinforce(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """From configurations with names only, under a limit, to a final network."""
    caplog.set_level(logging.ERROR)
    common = {
        "task": {"name": "digits", "batch_size": 128},
        "space": {"name": "nasbench201", "channels": 4, "cells": 1},
        "problem": {"constraints": {"flops": "<= 0.5 * largest"}},
        "runtime": {"device": "cpu", "threads": 1},
    }
    one_shot = {
        "name": "enas",
        "train": {"epochs": 1},
        "controller_steps": 2,
        "samples": 3,
        "final_candidates": 3,
        "policy": {"hidden": 8},
    }
    result = automl_nas.search(
        {**common, "stages": [{"name": "search", "strategy": one_shot}], "final": {"train": {"epochs": 1}}},
        out=tmp_path / "enas",
    )
    assert result.best is not None
    nested = {
        "strategy": {"name": "reinforce", "samples": 2},
        "evaluator": {"name": "train", "train": {"epochs": 1}},
        "budget": {"trials": 3},
    }
    result = automl_nas.search({**common, "stages": [{"name": "search", **nested}]}, out=tmp_path / "reinforce")
    assert result.best is not None
