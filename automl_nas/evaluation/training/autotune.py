"""Settling ``auto``: which precision and memory format train fastest on this machine."""

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

# In each list the default stands first: it is what another choice has to beat.
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

    Each combination takes training steps in turn, so a machine that slows down slows all of them; medians are compared.
    The defaults (float32, channels_last) stay unless another combination is clearly faster. Clocks differ from run to
    run: the choice belongs into the resolved configuration, and a resumed run must not tune again. Costs
    ``rounds + 1`` training steps for each combination; nothing when no setting says ``auto``.

    Args:
        settings: the keyword arguments of `Runtime`.
        build: makes a network of the usual size; it is called once for each combination.
        task: gives one training batch and the loss.
        seed: of the batch and the weights.
        rounds: how many steps of each are timed.
        margin: by which fraction another combination must be faster than the defaults.

    Raises:
        ConfigurationError: the training split holds no full batch.
    """
    free = [name for name in _OPTIONS if settings.get(name) == "auto"]
    if not free:
        return dict(settings)
    choices = [dict(zip(free, values, strict=True)) for values in itertools.product(*(_OPTIONS[name] for name in free))]
    full_batches(task, "train")
    batch = next(iter(task.batches("train", 0, stream_seed(seed, "tune"))))
    trials = [_Trial(Runtime(**{**settings, **choice}), build, task, batch, seed) for choice in choices]
    trials[0].runtime.activate()
    for trial in trials:
        trial.step()
    times: list[list[float]] = [[] for _ in trials]
    for turn in range(rounds):
        order = list(enumerate(trials))
        for position, trial in order if turn % 2 == 0 else reversed(order):
            times[position].append(trial.step())
    medians = [statistics.median(values) for values in times]
    best = min(range(len(choices)), key=medians.__getitem__)
    chosen = choices[best] if medians[best] < (1 - margin) * medians[0] else choices[0]
    return {**settings, **chosen}


class _Trial:
    """One combination of settings with a network of its own."""

    def __init__(self, runtime: Runtime, build: Callable[[], nn.Module], task: Task, batch: Batch, seed: int) -> None:
        self.runtime = runtime
        self._task, self._seed = task, seed
        with runtime.seeded(seed, "tune"):
            self._network = runtime.place(build()).train()
        self._inputs, self._targets = runtime.tensor(batch[0]), runtime.tensor(batch[1])

    def step(self) -> float:
        """Run forward and backward once; return the seconds it took."""
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
