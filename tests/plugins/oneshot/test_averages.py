"""Averages of a supernet's weights that are kept beside them, and the memory of a training step."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Request
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.supernet import Supernet
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.single_path import SinglePath
from automl_nas_oneshot.supernet_weights import SupernetWeights
from automl_nas_spaces.shufflenet_v2 import from_codes, shufflenet_v2

EPOCHS, BATCHES = 4, 5
BOTH = {"ema": 0.9, "swa_epochs": 2}


def make(space: ModuleSpace, task: ToyTask, artifacts: MemoryArtifacts, **settings: Any) -> SinglePath:
    settings = {"train": Recipe(epochs=EPOCHS), "iterations_per_step": 3, **settings}
    problem = Problem({"loss": "minimize"})
    return SinglePath(space, task, Runtime(device="cpu"), artifacts, problem, seed=2, **settings)


def trained(space: ModuleSpace, task: ToyTask, services: SimulatedServices, **settings: Any) -> MemoryArtifacts:
    artifacts = MemoryArtifacts()
    strategy = make(space, task, artifacts, **settings)
    while not strategy.done:
        strategy.step(services)
    return artifacts


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_averages_are_those_of_torch(space: ModuleSpace, task: ToyTask, services: SimulatedServices) -> None:
    artifacts = MemoryArtifacts()
    strategy = make(space, task, artifacts, **BOTH, iterations_per_step=1)
    ema = AveragedModel(strategy._supernet, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    swa = AveragedModel(strategy._supernet, use_buffers=True)
    for iteration in range(1, EPOCHS * BATCHES + 1):
        strategy.step(services)
        ema.update_parameters(strategy._supernet)
        if iteration in (3 * BATCHES, 4 * BATCHES):
            swa.update_parameters(strategy._supernet)
    for name, model in (("ema", ema), ("swa", swa)):
        assert sorted(artifacts.stored[name]) == sorted(artifacts.stored["weights"])
        for key, value in model.module.state_dict().items():
            # The same formula in float32; torch averages counters, too, which are copied here.
            if value.is_floating_point():
                torch.testing.assert_close(artifacts.stored[name][key], value, rtol=1e-6, atol=1e-7)


def test_the_raw_weights_are_those_without_averages(
    space: ModuleSpace, task: ToyTask, services: SimulatedServices
) -> None:
    with_averages = trained(space, task, services, **BOTH)
    without = trained(space, task, services)
    assert sorted(with_averages.stored) == ["ema", "swa", "weights"] and sorted(without.stored) == ["weights"]
    assert_equal(with_averages.stored["weights"], without.stored["weights"])
    for settings in ({"ema": None, "swa_epochs": 0}, {"ema": 0.9, "swa_epochs": 0}, BOTH):
        assert SinglePath.artifact_names(settings) == trained(space, task, services, **settings).stored.keys()


def test_averages_are_resumed_bit_equally(space: ModuleSpace, task: ToyTask, services: SimulatedServices) -> None:
    expected = trained(space, task, services, **BOTH)
    first = make(space, task, MemoryArtifacts(), **BOTH)
    for _ in range(5):  # 15 of 20 iterations: one epoch is in the mean
        first.step(services)
    state = copy.deepcopy(first.state_dict())
    artifacts = MemoryArtifacts()
    second = make(space, task, artifacts, **BOTH)
    second.load_state_dict(state)
    while not second.done:
        second.step(services)
    for name, tensors in expected.stored.items():
        assert_equal(artifacts.stored[name], tensors)


def test_candidates_are_scored_with_the_average_that_is_named(
    space: ModuleSpace, task: ToyTask, services: SimulatedServices
) -> None:
    stored = trained(space, task, services, **BOTH).stored
    request = Request(0, space.sample(stream(0, "candidate")), seed=0)
    losses = set()
    for name in ("weights", "ema", "swa"):
        artifacts = MemoryArtifacts(**{"supernet": stored["weights"], f"supernet/{name}": stored[name]})
        evaluator = SupernetWeights(space, task, Runtime(device="cpu"), artifacts, weights=f"supernet/{name}")
        assert_equal(dict(evaluator._supernet.state_dict()), stored[name])
        losses |= {outcome.metrics["loss"] for outcome in evaluator.evaluate([request])}
    assert len(losses) == 3


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"ema": 1.0}, "ema", "above 0 and below 1, not 1.0"),
        ({"swa_epochs": 5}, "swa_epochs", r"between 0 and train.epochs \(4\), not 5"),
        ({"ema": 0.9, "train": Recipe(epochs=4, average=0.9)}, "ema", "leave one of the two out"),
    ],
)
def test_settings_out_of_range_are_refused(
    space: ModuleSpace, task: ToyTask, settings: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make(space, task, MemoryArtifacts(), **settings)
    assert caught.value.path == path


def test_an_average_that_will_not_be_saved_is_refused_before_the_run() -> None:
    def config(weights: str, **settings: Any) -> dict[str, Any]:
        train = {"name": "single_path", "train": {"epochs": 2}, **settings}
        evaluator = {"name": "supernet_weights", "weights": weights}
        stages = [{"name": "supernet", "strategy": train}, {"name": "search", "strategy": "random"}]
        stages[1] |= {"evaluator": evaluator, "budget": {"trials": 2}}
        space = {"name": "shufflenet_v2", "stem_stride": 1, "widths": [16], "repeats": [2], "strides": [1]}
        return {"task": "digits", "space": space, "stages": stages}

    registry = complete_manager().registry
    make_plan(config("supernet/swa", swa_epochs=1), registry)
    with pytest.raises(
        ConfigurationError, match="saves no weights 'ema', only supernet, supernet/swa; set one"
    ) as caught:
        make_plan(config("supernet/ema", swa_epochs=1), registry)
    assert caught.value.path == "stages[1].evaluator.weights"


def test_a_training_step_keeps_the_tensors_of_its_path_only() -> None:
    """The memory for the backward pass is that of the network alone, to the byte."""
    space = shufflenet_v2(
        num_classes=3,
        input_shape=(2, 8, 8),
        stem_channels=8,
        stem_stride=1,
        widths=(8, 16),
        repeats=(2, 2),
        strides=(1, 2),
    )
    supernet = space.build_supernet()
    inputs = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    for codes in ([0, 1, 2, 3], [3, 3, 3, 3]):
        architecture = from_codes(space, codes)
        alone = supernet.extract(architecture)
        assert kept_bytes(supernet, inputs, architecture) == kept_bytes(alone, inputs) > 0


def kept_bytes(network: Any, inputs: Tensor, *selection: Any) -> int:
    """Return the size of what is kept for the backward pass, each memory once, without parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in parameters:
            kept[pointer] = tensor  # holding it, so that no other tensor gets its memory
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        (network.train()(inputs, *selection) if isinstance(network, Supernet) else network.train()(inputs)).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
