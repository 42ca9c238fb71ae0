"""A small space with a supernet, a task, and doubles of what a run supplies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.strategy.problem import Problem
from automl_nas.testing.artifacts import MemoryArtifacts
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.toy_supernet import toy_supernet_space
from automl_nas.testing.toys import ToyTask

PROBLEM = Problem({"accuracy": "maximize"})
RECIPE = Recipe(epochs=3, learning_rate=0.05, schedule="cosine", weight_decay=1e-3, clip_norm=5.0)


@cache
def small_space() -> ModuleSpace:
    return toy_supernet_space()


def simulated(problem: Problem = PROBLEM) -> SimulatedServices:
    return SimulatedServices(lambda number, p: finished(problem, number, p, {"accuracy": 0.5}))


def build(
    kind: Any, space: Any = None, problem: Problem = PROBLEM, artifacts: Artifacts | None = None, **given: Any
) -> Any:
    """Return a strategy on a small space: 5 iterations in an epoch of the weights, 3 batches for alpha."""
    settings = {"seed": 5, "train": RECIPE, "iterations_per_step": 4, **given}
    return kind(
        space or small_space(),
        settings.pop("task", None) or ToyTask(train=80, search=48),
        Runtime(device="cpu"),
        artifacts or MemoryArtifacts(),
        problem,
        **settings,
    )


def finish(strategy: Any, services: SimulatedServices | None = None) -> Any:
    """Run a strategy to its end; return its proposal."""
    services = services or simulated()
    while not strategy.done:
        strategy.step(services)
    assert len(services.submitted) == 1
    return services.submitted[0]


@pytest.fixture
def space() -> ModuleSpace:
    return small_space()


@pytest.fixture
def make() -> Callable[..., Any]:
    return build


@pytest.fixture
def run() -> Callable[..., Any]:
    return finish


@pytest.fixture
def services() -> Callable[..., SimulatedServices]:
    return simulated


@pytest.fixture
def artifacts() -> MemoryArtifacts:
    return MemoryArtifacts()
