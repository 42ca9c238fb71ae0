"""Supernets whose blocks share weights: trained, interrupted, averaged, loaded, and searched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts
from safetensors.torch import save_file
from torch import Tensor

from automl_nas.evaluation import Recipe, Request, Runtime
from automl_nas.evaluation.training.initial_weights import InitialWeights
from automl_nas.space import Supernet
from automl_nas.strategy import Problem
from automl_nas.streams import stream
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.toys import ToyTask
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_oneshot.single_path import SinglePath
from automl_nas_oneshot.supernet_weights import SupernetWeights

SPACE = NASBenchMacro(num_classes=3, input_shape=(1, 4, 4), channels=2, last_channels=4)


def make(artifacts: MemoryArtifacts, **settings: Any) -> SinglePath:
    settings = {"train": Recipe(epochs=4, weight_decay=1e-2), "ema": 0.9, "swa_epochs": 2, **settings}
    problem = Problem({"loss": "minimize"})
    task, runtime = ToyTask(train=80), Runtime(device="cpu")
    return SinglePath(SPACE, task, runtime, artifacts, problem, seed=2, iterations_per_step=3, **settings)


def finish(strategy: SinglePath, services: SimulatedServices) -> None:
    while not strategy.done:
        strategy.step(services)


def loaded(state: dict[str, Tensor]) -> Supernet:
    supernet = SPACE.build_supernet()
    supernet.load_state_dict(state)
    return supernet.eval()


def test_a_training_is_resumed_bit_equally_with_its_averages(services: SimulatedServices) -> None:
    whole, parts = MemoryArtifacts(), MemoryArtifacts()
    finish(make(whole), services)
    first = make(parts)
    for _ in range(5):  # 15 of 20 iterations: one epoch is in the mean
        first.step(services)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(parts)
    second.load_state_dict(torch.load(file, weights_only=True))
    finish(second, services)
    assert sorted(whole.stored) == ["ema", "swa", "weights"]
    for name, tensors in whole.stored.items():
        assert tensors.keys() == parts.stored[name].keys() == SPACE.build_supernet().state_dict().keys()
        assert all(torch.equal(tensor, parts.stored[name][key]) for key, tensor in tensors.items())


@pytest.mark.parametrize("average", ["weights", "ema", "swa"])
def test_candidates_are_scored_with_the_stored_weights(average: str, services: SimulatedServices) -> None:
    """Together, alone, and from a network that was extracted by hand."""
    artifacts, runtime, task = MemoryArtifacts(), Runtime(device="cpu"), ToyTask(train=80)
    finish(make(artifacts), services)
    rng = stream(0, "candidates")
    candidates = [SPACE.sample(rng) for _ in range(6)]
    candidates.append(candidates[0].replace({"layer_8": "k3_e3"}))
    losses = []
    for together in (1, 50):
        evaluator = SupernetWeights(
            SPACE, task, runtime, artifacts, weights=average, together=together, recalibration_images=0
        )
        requests = [Request(number, each, seed=0) for number, each in enumerate(candidates)]
        losses.append([each.metrics["loss"] for each in evaluator.evaluate(iter(requests))])
    assert losses[0] == losses[1]
    supernet = loaded(artifacts.stored[average])
    for candidate, loss in zip(candidates, losses[0], strict=True):
        with torch.no_grad():
            expected = task.score(lambda images, path=candidate: supernet(images, path), "search")["loss"]  # type: ignore[misc]
        # The evaluator has another memory format, in which float32 sums have another order.
        assert loss == pytest.approx(expected, rel=1e-5)


def test_initial_weights_are_those_of_the_large_blocks(tmp_path: Path, services: SimulatedServices) -> None:
    """The file of a shared supernet, and that of a separate one, whose small blocks have no place here."""
    runtime = Runtime(device="cpu")
    settings: dict[str, Any] = {"num_classes": 3, "input_shape": (1, 4, 4), "channels": 2, "last_channels": 4}
    for shared in (True, False):
        with runtime.seeded(9, "donor"):
            donor = NASBenchMacro(**settings, shared=shared).build_supernet()
        file = tmp_path / f"{shared}.safetensors"
        save_file(donor.state_dict(), file)
        strategy = make(MemoryArtifacts(), initial_weights=InitialWeights(str(file)))
        state = strategy._supernet.state_dict()
        assert all(torch.equal(tensor, donor.state_dict()[name]) for name, tensor in state.items())
        strategy.step(services)
