"""Scores with inherited weights: against the same thing done by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts, make_space, make_weights
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Direction, Predictor, Task
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.evaluators import EvaluatorContract
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.supernet_weights import SupernetWeights

Make = Callable[..., SupernetWeights]


@pytest.fixture
def make(space: ModuleSpace, task: ToyTask, runtime: Runtime, artifacts: Any, weights: dict[str, Tensor]) -> Make:
    def build(**settings: Any) -> SupernetWeights:
        settings = {"recalibration_images": 60, **settings}
        return SupernetWeights(space, settings.pop("task", task), runtime, artifacts(supernet=weights), **settings)

    return build


class TestContract(EvaluatorContract):
    def make_space(self) -> ModuleSpace:
        return make_space()

    def make_evaluator(self, space: Any) -> SupernetWeights:
        artifacts = MemoryArtifacts(supernet=make_weights())
        return SupernetWeights(space, self.make_task(), Runtime(device="cpu"), artifacts, recalibration_images=60)

    def make_task(self) -> ToyTask:
        return ToyTask(train=80)


class TestContractAtAFidelity(TestContract):
    fidelity = 16.0


def request(space: ModuleSpace, number: int = 0, **fields: Any) -> Request:
    return Request(number, space.sample(stream(1, "candidate", number)), **{"seed": number, **fields})


def by_hand(space: ModuleSpace, task: ToyTask, weights: Mapping[str, Tensor], candidate: Request) -> dict[str, float]:
    """Score a candidate whose statistics are two-pass means in double precision."""
    supernet = space.build_supernet()
    supernet.load_state_dict(weights)
    network = supernet.extract(candidate.architecture).double()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    batches = [x.double() for x, _ in task.batches("train", 0, stream_seed(0, "recalibrate"))][:4]
    seen: dict[nn.Module, list[np.ndarray[Any, Any]]] = {norm: [] for norm in norms}
    handles = [norm.register_forward_pre_hook(lambda m, args: seen[m].append(args[0].numpy())) for norm in norms]
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        for x in batches:
            network(x)
    for handle in handles:
        handle.remove()
    for norm in norms:
        norm.running_mean = torch.tensor(np.mean([v.mean((0, 2, 3)) for v in seen[norm]], axis=0))
        norm.running_var = torch.tensor(np.mean([v.var((0, 2, 3), ddof=1) for v in seen[norm]], axis=0))
    network.eval()
    with torch.no_grad():
        return dict(task.score(lambda x: network(x.double()).float(), "search"))


def test_scores_are_those_of_a_network_recalibrated_by_hand(
    make: Make, space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor]
) -> None:
    requests = [request(space, number) for number in range(4)]
    for candidate, outcome in zip(requests, make().evaluate(requests), strict=True):
        expected = by_hand(space, task, weights, candidate)
        # The loss is a float32 forward pass against one in double precision.
        assert outcome.metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        assert outcome.metrics["accuracy"] == expected["accuracy"]
        assert outcome.info == {"recalibration_images": 60, "recalibration_batch": 16}


def test_recalibration_can_be_off_and_is_the_fidelity(
    make: Make, space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor]
) -> None:
    candidate = request(space)
    supernet = space.build_supernet()
    supernet.load_state_dict(weights)
    network = supernet.extract(candidate.architecture).eval()
    with torch.no_grad():
        plain = dict(task.score(network, "search"))
    (off,) = make(recalibration_images=0).evaluate([candidate])
    assert off.metrics["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    (also_off,) = make().evaluate([request(space, fidelity=0.0)])
    assert also_off.metrics == off.metrics
    (on,) = make().evaluate([candidate])
    assert on.metrics["loss"] != pytest.approx(plain["loss"], rel=1e-3)


@pytest.mark.parametrize("megabytes", [0.0, 0.0025, 1.0])  # nothing, 2 batches of 1 KB, everything
def test_the_cache_changes_nothing_but_the_reading(make: Make, space: ModuleSpace, megabytes: float) -> None:
    reader = Counting()
    evaluator = make(cache_megabytes=megabytes, task=reader, together=1)
    requests = [request(space, number, fidelity=float(images)) for number, images in enumerate([40, 100, 16, 100])]
    metrics = {outcome.number: outcome.metrics for outcome in evaluator.evaluate(requests)}
    for candidate in requests:
        (fresh,) = make(cache_megabytes=0.0).evaluate([candidate])
        assert fresh.metrics == metrics[candidate.number]
    # Batches of 16 that the four candidates need: 3, 7, 1, 7.
    cached = min(7, int(megabytes * 1e6 / (16 * 16 * 4)))
    assert reader.read == (18 if cached == 0 else cached + sum(max(0, need - cached) for need in (3, 7, 1, 7)))


def test_equal_architectures_score_equal_whatever_the_seed(make: Make, space: ModuleSpace) -> None:
    first, second = request(space, 3, seed=1), request(space, 3, seed=2)
    one, two = make().evaluate([first, second])
    assert one.metrics == two.metrics


def test_metrics_that_are_not_finite_fail_the_trial(
    space: ModuleSpace, task: ToyTask, runtime: Runtime, artifacts: Any, weights: dict[str, Tensor]
) -> None:
    broken = {
        name: torch.full_like(value, math.nan) if name.endswith("3.bias") else value for name, value in weights.items()
    }
    evaluator = SupernetWeights(space, task, runtime, artifacts(supernet=broken))
    (outcome,) = evaluator.evaluate([request(space)])
    assert (outcome.state, outcome.metrics, outcome.error) == (State.FAILED, {}, "loss is nan")


def test_weights_of_another_space_and_wrong_settings_are_refused(
    make: Make, space: ModuleSpace, task: ToyTask, runtime: Runtime, artifacts: Any
) -> None:
    with pytest.raises(ConfigurationError, match="'other' do not fit") as caught:
        SupernetWeights(space, task, runtime, artifacts(other={"a": torch.zeros(1)}), weights="other")
    assert caught.value.path == "weights"
    with pytest.raises(ConfigurationError, match="recalibration_images"):
        make(recalibration_images=-1)
    with pytest.raises(ConfigurationError, match="cache_megabytes"):
        make(cache_megabytes=math.nan)


class Counting(Task):
    """The toy task; counts the batches that are read."""

    def __init__(self) -> None:
        self._inner, self.read = ToyTask(train=80), 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._inner.input_shape

    @property
    def num_classes(self) -> int:
        return self._inner.num_classes

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return self._inner.metrics

    def size(self, split: str) -> int:
        return self._inner.size(split)

    def batches_per_epoch(self, split: str) -> int:
        return self._inner.batches_per_epoch(split)

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for batch in self._inner.batches(split, epoch, seed, start):
            self.read += 1
            yield batch

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._inner.loss(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return self._inner.score(model, split)
