"""Scores on a random part of a split, with the values of blocks of its samples for paired tests."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Batch, Predictor, Runtime, SupervisedTask, Task, permutation

BLOCK_COUNT = 32
"""Number of blocks. Means of blocks are close to normal where single losses are not; a t-test of 32 has 31 degrees of
freedom, whose critical values are within 10 % of the normal distribution's at a level of 0.001."""

Scored: TypeAlias = "tuple[dict[str, float], dict[str, list[float]]]"
"""Metrics, and metric -> values of blocks."""


def check_blocks(task: Task) -> SupervisedTask:
    """Return a task whose samples can be scored in parts.

    Raises:
        ConfigurationError: the task does not name its samples.
    """
    if not isinstance(task, SupervisedTask):
        raise ConfigurationError(
            f"{type(task).__name__} cannot be scored on a part of its samples; only a SupervisedTask names them; "
            "leave it out",
            path="fidelity",
        )
    return task


class PartScore:
    """Scores networks on the same random samples of a split, in the same blocks.

    The samples are those at the first places of a fixed random order of the split, so a smaller part is contained in a
    larger one. They are read once.

    Args:
        task: the samples and metrics.
        runtime: where networks run.
        split: the split.
        samples: number of samples; rounded down to a multiple of the number of blocks.
        seed: of the order.

    Raises:
        ConfigurationError: there are fewer samples than blocks, or more than the split has.
    """

    def __init__(self, task: SupervisedTask, runtime: Runtime, split: str, samples: float, seed: int) -> None:
        if not BLOCK_COUNT <= samples <= task.size(split):
            raise ConfigurationError(
                f"a part of the split '{split}' has at least {BLOCK_COUNT} (a sample in each block) and at most "
                f"{task.size(split)} images, not {samples:g}",
                path="fidelity",
            )
        resident = runtime.resident(task)
        assert isinstance(resident, SupervisedTask)
        self._task, self._split = resident, split
        self.samples = math.floor(samples) // BLOCK_COUNT * BLOCK_COUNT
        order = permutation(seed, "part", 0, task.size(split))[: self.samples]
        self._batches = _chosen(self._task.scored_batches(split), torch.from_numpy(order))

    def __call__(self, predict: Predictor) -> Scored:
        """Return metrics and blocks of a network."""
        outputs = torch.cat([predict(inputs) for inputs, _ in self._batches])
        targets = torch.cat([targets for _, targets in self._batches])
        blocks: dict[str, list[float]] = {}
        size = self.samples // BLOCK_COUNT
        for first in range(0, self.samples, size):
            for name, value in self._metrics(outputs[first : first + size], targets[first : first + size]).items():
                blocks.setdefault(name, []).append(value)
        finite = {name: values for name, values in blocks.items() if all(map(math.isfinite, values))}
        return self._metrics(outputs, targets), finite

    def _metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        part: Any = copy.copy(self._task)
        part.scored_batches = lambda split: iter([(outputs, targets)])  # what the network computed stands for inputs
        values: Mapping[str, float] = part.score(_identity, self._split)
        return {name: float(value) for name, value in values.items()}


def _identity(outputs: Tensor) -> Tensor:
    return outputs


def _chosen(batches: Iterable[Batch], order: Tensor) -> list[Batch]:
    """Return the samples with the given numbers, in their order, in batches as large as the first one."""
    sorted_order, ranks = order.sort()
    inputs, targets, begin, length = list[Tensor](), list[Tensor](), 0, 0
    for x, y in batches:
        of_batch = sorted_order[(sorted_order >= begin) & (sorted_order < begin + len(x))] - begin
        inputs.append(x[of_batch.to(x.device)])
        targets.append(y[of_batch.to(y.device)])
        begin, length = begin + len(x), length or len(x)
    back = ranks.argsort()
    x, y = torch.cat(inputs), torch.cat(targets)
    x, y = x[back.to(x.device)], y[back.to(y.device)]
    return list(zip(torch.split(x, length), torch.split(y, length), strict=True))
