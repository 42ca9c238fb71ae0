"""The sandwich rule and in-place distillation: against a loop written by hand, resumed, and refused."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts
from torch import nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d
from automl_nas.space.modules.elastic_layers.linear import ElasticLinear
from automl_nas.space.modules.elastic_layers.normalisation import ElasticBatchNorm2d
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.paths import SandwichPaths
from automl_nas_oneshot.single_path import SinglePath

WIDTHS = (2, 4, 8)
RECIPE = Recipe(epochs=2, learning_rate=0.1, weight_decay=0.0)  # 10 iterations


def network() -> nn.Module:
    return nn.Sequential(
        ElasticConv2d(1, WIDTHS, 3, padding=1, bias=False, name="width"),
        ElasticBatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        ElasticLinear(8, 3),
    )


SPACE = ModuleSpace(network, input_shape=(1, 4, 4))
RUNTIME = Runtime(device="cpu", memory_format="contiguous")


def strategy(artifacts: MemoryArtifacts, task: ToyTask, **settings: Any) -> SinglePath:
    settings = {"paths": "sandwich", "distill": True, "train": RECIPE, "iterations_per_step": 4, **settings}
    return SinglePath(SPACE, task, RUNTIME, artifacts, Problem({"accuracy": "maximize"}), seed=5, **settings)


def complete(training: SinglePath, services: SimulatedServices) -> None:
    while not training.done:
        training.step(services)


def test_each_batch_has_the_largest_path_the_smallest_one_and_random_ones() -> None:
    space = DecisionSpace({"width": Ordinal(WIDTHS), "depth": Ordinal((1, 2)), "kind": Choice(("a", "b"))})
    paths = SandwichPaths(space, seed=1, between=2)
    assert paths.passes == 4
    drawn = [paths(count) for count in range(4 * 600)]
    assert {(path["width"], path["depth"]) for path in drawn[::4]} == {(8, 2)}
    assert {(path["width"], path["depth"]) for path in drawn[1::4]} == {(2, 1)}
    assert Counter(path["kind"] for path in drawn[::4]).keys() == {"a", "b"}
    seen = Counter(path for place in (2, 3) for path in drawn[place::4])
    assert len(seen) == 12
    # 1,200 draws, 100 expected of each; chi-square with 11 degrees of freedom exceeds 31.3 for one seed in 1000.
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 31.3
    assert paths(7) == SandwichPaths(space, seed=1, between=2)(7)  # a function of the number alone


@pytest.mark.parametrize("distill", [False, True])
def test_the_supernet_is_what_a_hand_written_loop_trains(
    distill: bool, task: ToyTask, services: SimulatedServices
) -> None:
    """The Kullback-Leibler divergence has the gradient of the soft cross entropy, since the teacher has none."""
    saved = MemoryArtifacts()
    complete(strategy(saved, task, distill=distill, sandwich_paths=1), services)
    with RUNTIME.seeded(5, "init"):
        supernet = RUNTIME.place(SPACE.build_supernet()).train()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
    iteration = 0
    for epoch in range(2):
        for inputs, targets in task.batches("train", epoch, stream_seed(5, "data")):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - iteration / 10)
            optimizer.zero_grad()
            random_path = SPACE.sample(stream(5, "path", 3 * iteration + 2))
            soft = None
            for width in (8, 2, random_path["width"]):
                outputs = supernet(inputs, {"width": width})
                if distill and soft is not None:
                    loss = -(soft * F.log_softmax(outputs, 1)).sum(1).mean()
                else:
                    loss = F.cross_entropy(outputs, targets)
                    soft = F.softmax(outputs.detach(), 1)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            iteration += 1
    assert iteration == 10
    for name, value in supernet.state_dict().items():
        # Both divergences round differently in single precision: a few units in the last place over ten steps.
        torch.testing.assert_close(saved.stored["weights"][name], value, rtol=1e-4, atol=1e-5)


def test_the_initial_network_teaches_all_paths(task: ToyTask, services: SimulatedServices) -> None:
    """Hinton et al. (2015): (1 - w) CE + w T^2 KL, with w = 0.5 and T = 4; the teacher does not change."""
    saved = MemoryArtifacts()
    complete(strategy(saved, task, teacher="initial", sandwich_paths=1), services)
    with RUNTIME.seeded(5, "init"):
        supernet = RUNTIME.place(SPACE.build_supernet()).train()
    teacher = supernet.extract({"width": 8}).eval()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
    iteration = 0
    for epoch in range(2):
        for inputs, targets in task.batches("train", epoch, stream_seed(5, "data")):
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - iteration / 10)
            optimizer.zero_grad()
            with torch.no_grad():
                soft = F.softmax(teacher(inputs) / 4, 1)
            for width in (8, 2, SPACE.sample(stream(5, "path", 3 * iteration + 2))["width"]):
                outputs = supernet(inputs, {"width": width})
                divergence = (soft * (soft.log() - F.log_softmax(outputs / 4, 1))).sum(1).mean()
                loss = 0.5 * F.cross_entropy(outputs, targets) + 0.5 * 16 * divergence
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            iteration += 1
    for name, value in supernet.state_dict().items():
        torch.testing.assert_close(saved.stored["weights"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("teacher", ["largest", "initial"])
def test_resume_is_bit_equal(teacher: str, task: ToyTask, services: SimulatedServices) -> None:
    whole, parts = MemoryArtifacts(), MemoryArtifacts()
    complete(strategy(whole, task, teacher=teacher), services)
    first = strategy(parts, task, teacher=teacher)
    first.step(services)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = strategy(parts, task, teacher=teacher)
    second.load_state_dict(torch.load(file, weights_only=True))
    complete(second, services)
    assert all(torch.equal(value, parts.stored["weights"][name]) for name, value in whole.stored["weights"].items())


class Numbers(ToyTask):
    def outputs(self) -> dict[str, Any]:
        return {"kind": "numbers", "logits": False}


def test_what_makes_no_sense_is_refused(
    space: ModuleSpace, task: ToyTask, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"paths: none of the decisions .* is an Ordinal"):
        SinglePath(space, task, runtime, MemoryArtifacts(), Problem({"accuracy": "maximize"}), seed=1, paths="sandwich")
    with pytest.raises(ConfigurationError, match="sandwich_paths: must be at least 1, not 0"):
        strategy(MemoryArtifacts(), task, sandwich_paths=0)
    with pytest.raises(
        ConfigurationError, match=r"distill: the largest path .* only with paths: sandwich, not uniform"
    ):
        strategy(MemoryArtifacts(), task, paths="uniform")
    with pytest.raises(ConfigurationError, match=r"distill: .* outputs of this task are numbers"):
        strategy(MemoryArtifacts(), Numbers())
    with pytest.raises(ConfigurationError, match="teacher: only distill: true has a teacher"):
        strategy(MemoryArtifacts(), task, distill=False, teacher="initial")
    supernet = SPACE.build_supernet()
    with pytest.raises(ConfigurationError, match=r"in_place: .* several passes"):
        Fit(supernet, task, RUNTIME, RECIPE, seed=1, in_place=True)
