"""Inherited weights that are trained for some steps before a candidate is scored: against a loop written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import MemoryArtifacts
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.batch_norm import recalibrate
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.supernet_weights import SupernetWeights

STEPS = 7  # of 5 batches an epoch


def make(space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor], **settings: Any) -> SupernetWeights:
    settings = {"recalibration_images": 60, "finetune_steps": STEPS, "finetune_rate": 0.05, **settings}
    return SupernetWeights(space, task, Runtime(device="cpu"), MemoryArtifacts(supernet=weights), **settings)


def requests(space: ModuleSpace, count: int = 3) -> list[Request]:
    return [Request(n, space.sample(stream(1, "candidate", n)), seed=n) for n in range(count)]


def evaluate(evaluator: SupernetWeights, candidates: list[Request]) -> dict[int, Outcome]:
    return {outcome.number: outcome for outcome in evaluator.evaluate(candidates)}


def test_scores_are_those_of_a_network_trained_by_hand(
    space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor], runtime: Runtime
) -> None:
    supernet = space.build_supernet()
    supernet.load_state_dict(weights)
    (request, *_) = requests(space)
    network = supernet.extract(request.architecture).train()
    for module in network.modules():  # its random numbers are not those of `Fit`: see the next test
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for block in supernet.modules():
        if isinstance(block, torch.nn.Dropout):
            block.p = 0.0
    evaluator = make(space, task, weights)
    for module in evaluator._supernet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    groups = [
        {"params": [p for p in network.parameters() if p.dim() > 1], "weight_decay": 4e-5},
        {"params": [p for p in network.parameters() if p.dim() <= 1]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    batches = [batch for epoch in (0, 1) for batch in task.batches("train", epoch, stream_seed(0, "data"))]
    for x, y in batches[:STEPS]:
        optimizer.zero_grad()
        task.loss(network(x), y).backward()
        optimizer.step()
    recalibrate(network, task, runtime, images=60, seed=0)
    network.eval()
    with torch.no_grad():
        expected = task.score(network, "search")
    (outcome,) = evaluator.evaluate([request])
    # Both compute the same in float32, in another memory format.
    assert outcome.metrics["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert outcome.info == {"recalibration_images": 60, "recalibration_batch": 16, "finetune_steps": STEPS}


def test_candidates_do_not_touch_each_other(space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor]) -> None:
    evaluator, candidates = make(space, task, weights), requests(space)
    assert evaluator.taken_ahead == 1
    together = evaluate(evaluator, candidates)
    for name, tensor in evaluator._supernet.state_dict().items():
        assert torch.equal(tensor, weights[name])
    for request in candidates:
        alone = evaluate(make(space, task, weights), [request])[request.number]
        assert alone.metrics == together[request.number].metrics
    plain = evaluate(make(space, task, weights, finetune_steps=0), candidates)
    assert all(plain[n].metrics["loss"] > outcome.metrics["loss"] for n, outcome in together.items())


def test_a_candidate_whose_training_diverges_fails(
    space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor]
) -> None:
    (outcome,) = make(space, task, weights, finetune_rate=1e30).evaluate(requests(space, 1))
    assert outcome.state is State.FAILED and outcome.error.startswith("fine-tuning: the training loss became")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune_steps": -1}, "finetune_steps must be at least 0"),
        ({"finetune_rate": 0.0}, "must be positive, not 0.0"),
        ({"finetune_rate": float("nan")}, "must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(
    space: ModuleSpace, task: ToyTask, weights: dict[str, Tensor], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(space, task, weights, **settings)


def test_a_split_without_a_batch_is_refused(space: ModuleSpace, weights: dict[str, Tensor]) -> None:
    with pytest.raises(ConfigurationError, match="no full batch"):
        make(space, ToyTask(train=8), weights)
