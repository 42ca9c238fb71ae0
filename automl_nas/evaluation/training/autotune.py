"""Choosing the precision and the memory format with which a network trains fastest on this machine."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Task
from automl_nas.evaluation.training.batch_norm import full_batches
from automl_nas.streams import stream_seed

# The first option of each setting is the default, with which the others are compared.
_OPTIONS = {"precision": ("float32", "bfloat16"), "memory_format": ("channels_last", "contiguous")}


def tune(
    settings: Mapping[str, Any],
    build: Callable[[], nn.Module],
    task: Task,
    *,
    seed: int,
    rounds: int = 7,
    margin: float = 0.05,
) -> dict[str, Any]:
    """Return the settings of a `Runtime` with every ``auto`` of precision and memory format replaced by a choice.

    The combinations take training steps in turn, so that changes in the machine's speed affect all of them; the medians
    of their times are compared. The defaults (float32, channels_last) are chosen unless another combination is faster
    by the margin. Times differ from run to run: the choice must be stored in the resolved configuration, and a resumed
    run must not tune again. Takes ``rounds + 1`` training steps for each combination, and none if no setting is
    ``auto``.

    Args:
        settings: the keyword arguments of `Runtime`.
        build: returns a network of typical size; it is called once for each combination.
        task: provides a training batch and the loss.
        seed: of the batch and the weights.
        rounds: the number of timed steps of each combination.
        margin: the fraction by which another combination must be faster than the defaults.

    Raises:
        ConfigurationError: the training split has fewer samples than one batch.
    """
    free = [name for name in _OPTIONS if settings.get(name) == "auto"]
    if not free:
        return dict(settings)
    choices = [dict(zip(free, values, strict=True)) for values in itertools.product(*(_OPTIONS[name] for name in free))]
    full_batches(task, "train")
    batch = next(iter(task.batches("train", 0, stream_seed(seed, "tune"))))
    combinations = [TimedStep(Runtime(**{**settings, **choice}), build, task, batch, seed) for choice in choices]
    combinations[0].runtime.activate()
    for combination in combinations:
        combination.step()
    times: list[list[float]] = [[] for _ in combinations]
    for turn in range(rounds):
        order = list(enumerate(combinations))
        for position, combination in order if turn % 2 == 0 else reversed(order):
            times[position].append(combination.step())
    medians = [statistics.median(values) for values in times]
    best = min(range(len(choices)), key=medians.__getitem__)
    chosen = choices[best] if medians[best] < (1 - margin) * medians[0] else choices[0]
    return {**settings, **chosen}


class TimedStep:
    """Training steps of a network on one batch, for their duration.

    Args:
        runtime: where the network is trained.
        build: returns the network.
        task: has the loss.
        batch: inputs and targets.
        seed: of the weights and of each step.
    """

    def __init__(self, runtime: Runtime, build: Callable[[], nn.Module], task: Task, batch: Batch, seed: int) -> None:
        self.runtime = runtime
        self._task, self._seed = task, seed
        with runtime.seeded(seed, "tune"):
            self._network = runtime.place(build()).train()
        self._inputs, self._targets = runtime.tensor(batch[0]), runtime.tensor(batch[1])

    def step(self) -> float:
        """Run one forward and one backward pass; return the seconds they took."""
        runtime = self.runtime
        self._wait()
        begun = time.perf_counter()
        with runtime.seeded(self._seed, "tune"):
            self._network.zero_grad(set_to_none=True)
            with runtime.autocast():
                loss = self._task.loss(self._network(self._inputs), self._targets)
            loss.backward()  # type: ignore[no-untyped-call]
        self._wait()
        return time.perf_counter() - begun

    def _wait(self) -> None:
        if self.runtime.device.type != "cpu":
            torch.get_device_module(self.runtime.device).synchronize()
