"""Scores on a part of a split, and races of candidates with inherited weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from end_to_end.runs import record
from plugins.oneshot.conftest import MemoryArtifacts
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Request
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.tasks.tensor_task import TensorTask
from automl_nas.run.api import search
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.streams import stream
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.part_scores import BLOCK_COUNT, PartScore
from automl_nas_oneshot.supernet_weights import SupernetWeights

COUNT = 150


@pytest.fixture
def sorted_task() -> TensorTask:
    """The split to score is sorted by class, and the value of an image is its number in the split."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, 4, 4, generator=generator)
    y = torch.arange(64) % 3
    numbers = torch.arange(COUNT).float()[:, None, None, None].expand(COUNT, 1, 4, 4).contiguous()
    held_out = (numbers, torch.arange(COUNT) // 50)
    return TensorTask(x, y, search=held_out, test=held_out, batch_size=16, score_batch_size=40)


def predict(inputs: Tensor) -> Tensor:
    """Return logits that depend on the number of the image."""
    return torch.stack([torch.sin((k + 1) * inputs[:, 0, 0, 0]) for k in range(3)], dim=1)


def test_a_part_is_scored_as_its_images_alone(sorted_task: TensorTask) -> None:
    seen: list[int] = []

    def recorded(inputs: Tensor) -> Tensor:
        seen.extend(inputs[:, 0, 0, 0].int().tolist())
        return predict(inputs)

    part = PartScore(sorted_task, Runtime(device="cpu"), "search", 100, 0)
    metrics, blocks = part(recorded)
    assert part.samples == len(seen) == len(set(seen)) == 96  # a multiple of 32
    numbers = torch.tensor(seen)
    logits = predict(numbers.float()[:, None, None, None].expand(96, 1, 4, 4))
    losses = torch.nn.functional.cross_entropy(logits, numbers // 50, reduction="none")
    right = (logits.argmax(1) == numbers // 50).double()
    # Sums of float32 in another order.
    assert metrics["loss"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(right.mean().item(), rel=1e-6)
    assert np.allclose(blocks["loss"], losses.reshape(BLOCK_COUNT, 3).mean(1), rtol=1e-5)
    assert np.allclose(blocks["accuracy"], right.reshape(BLOCK_COUNT, 3).mean(1))
    # The order is random: no class is missing in a third of the images, and a smaller part is its beginning.
    assert all((numbers[:32] // 50 == k).any() for k in range(3)) and seen != sorted(seen)
    smaller: list[int] = []
    PartScore(sorted_task, Runtime(device="cpu"), "search", 32, 0)(
        lambda x: smaller.extend(x[:, 0, 0, 0].int().tolist()) or predict(x)  # type: ignore[func-returns-value]
    )
    assert smaller == seen[:32]
    whole, _ = PartScore(sorted_task, Runtime(device="cpu"), "search", COUNT, 0)(predict)
    assert whole["loss"] != metrics["loss"]


@pytest.mark.parametrize("samples", [31, COUNT + 1])
def test_parts_of_other_sizes_are_refused(sorted_task: TensorTask, samples: int) -> None:
    with pytest.raises(ConfigurationError, match=f"at least 32 .* at most {COUNT} images, not {samples}"):
        PartScore(sorted_task, Runtime(device="cpu"), "search", samples, 0)


def test_candidates_have_the_same_scores_together_and_alone(
    space: ModuleSpace, sorted_task: TensorTask, weights: dict[str, Tensor]
) -> None:
    def make(**settings: Any) -> SupernetWeights:
        artifacts = MemoryArtifacts(supernet=weights)
        return SupernetWeights(
            space, sorted_task, Runtime(device="cpu"), artifacts, fidelity="scored_images", **settings
        )

    requests = [
        Request(n, space.sample(stream(0, "candidate", n)), seed=0, fidelity=[96.0, None, 64.0][n % 3])
        for n in range(9)
    ]
    together = {o.number: (o.metrics, o.info) for o in make().evaluate(requests)}
    alone = {o.number: (o.metrics, o.info) for r in requests for o in make(together=1).evaluate([r])}
    assert together == alone
    recalibration = {"recalibration_images": 1024, "recalibration_batch": 16}
    assert together[1][1] == recalibration
    blocks = together[0][1]["blocks"]
    assert together[0][1] == {**recalibration, "scored_images": 96, "blocks": blocks}
    assert isinstance(blocks, dict) and np.mean(blocks["loss"]) == pytest.approx(together[0][0]["loss"], rel=1e-5)


def test_a_task_without_samples_is_refused(space: ModuleSpace, weights: dict[str, Tensor]) -> None:
    artifacts = MemoryArtifacts(supernet=weights)
    with pytest.raises(ConfigurationError, match="ToyTask cannot be scored on a part") as caught:
        SupernetWeights(space, ToyTask(), Runtime(device="cpu"), artifacts, fidelity="scored_images")
    assert caught.value.path == "fidelity"


@pytest.mark.slow
def test_a_race_in_a_run_does_not_depend_on_batches(tmp_path: Path) -> None:
    def config(batch: int) -> dict[str, Any]:
        evolution = {"name": "evolution", "population": 6, "generations": 2, "top_k": 2}
        race = {"name": "race", "strategy": evolution, "part": 64, "candidates": 6, "keep": 2}
        evaluator = {
            "name": "supernet_weights",
            "weights": "supernet",
            "recalibration_images": 64,
            "fidelity": "scored_images",
        }
        return {
            "final": None,
            "task": {"name": "digits", "batch_size": 64},
            "space": {
                "name": "shufflenet_v2",
                "stem_channels": 8,
                "stem_stride": 1,
                "widths": [12, 24],
                "repeats": [2, 1],
                "strides": [1, 2],
                "last_channels": 16,
            },
            "runtime": {"device": "cpu", "threads": 1, "precision": "float32", "memory_format": "contiguous"},
            "stages": [
                {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1}}},
                {"name": "search", "strategy": race, "evaluator": evaluator, "batch": batch},
            ],
        }

    recorded = []
    for batch in (1, 6):
        out = tmp_path / str(batch)
        assert search(config(batch), out=out, progress="none").found
        recorded.append(record(out)["trials"])
    assert recorded[0] == recorded[1]
    full = [trial for trial in recorded[0] if trial["fidelity"] is None]
    assert 4 <= len(full) <= 12 and len(recorded[0]) == 12 + len(full)
