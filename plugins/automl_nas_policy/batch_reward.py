"""The reward of an architecture with shared weights, on one batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from automl_nas.evaluation import NumberedBatches, Runtime, Task, batch_norms
from automl_nas.space import Architecture, Supernet
from automl_nas.streams import stream_seed

Reward: TypeAlias = Literal["accuracy", "loss"]
"""Accuracy on a batch, or the negative of its loss."""
Statistics: TypeAlias = Literal["batch", "running"]
"""Whose statistics batch normalisation uses: those of the batch, or the running ones of the supernet."""


@final
class BatchReward:
    """Computes rewards of architectures on the batches of the split ``search``.

    Args:
        supernet: holds the shared weights, which are not changed, nor are running statistics.
        task: the batches.
        runtime: where the rewards are computed; over several processes they are averaged.
        seed: of the order of the batches.
        reward: see `Reward`.
        statistics: see `Statistics`.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        runtime: Runtime,
        *,
        seed: int,
        reward: Reward,
        statistics: Statistics,
    ) -> None:
        self._supernet, self._task, self._runtime = supernet, task, runtime
        self._reward, self._statistics = reward, statistics
        self._batches = NumberedBatches(task, "search", stream_seed(seed, "reward/data"))

    def rewind(self) -> None:
        """Let the next call use any batch."""
        self._batches.rewind()

    @torch.no_grad()
    def __call__(self, architectures: Sequence[Architecture], number: int) -> list[float]:
        """Return the rewards of architectures on batch ``number``; numbers are consecutive, except after `rewind`."""
        runtime = self._runtime
        x, y = (runtime.tensor(runtime.shard(tensor)) for tensor in self._batches.take(number))
        rewards: list[Tensor] = []
        with self._mode(), runtime.autocast():
            for architecture in architectures:
                outputs = self._supernet(x, architecture)
                if self._reward == "accuracy":
                    rewards.append((outputs.argmax(1) == y).float().mean())
                else:
                    rewards.append(-self._task.loss(outputs, y).float())
        values = torch.stack(rewards)
        runtime.reduce([values])
        result: list[float] = values.double().cpu().tolist()
        return result

    @contextlib.contextmanager
    def _mode(self) -> Iterator[None]:
        """Set evaluation mode; batch normalisation may use the statistics of the batch, without recording them."""
        self._supernet.eval()
        if self._statistics == "running":
            yield
            return
        layers = batch_norms(self._supernet)
        tracked = [layer.track_running_stats for layer in layers]
        for layer in layers:
            layer.train()
            layer.track_running_stats = False
        try:
            yield
        finally:
            for layer, before in zip(layers, tracked, strict=True):
                layer.track_running_stats = before
                layer.eval()
