"""All proxies by name, and computing them for architectures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Task, full_batches
from automl_nas_proxies.outputs import epe_nas, jacov, nwot, zen
from automl_nas_proxies.probe import Probe
from automl_nas_proxies.weights import fisher, grad_norm, grasp, l2_norm, plain, snip, synflow

Proxy: TypeAlias = Literal[
    "synflow", "nwot", "jacov", "snip", "grad_norm", "grasp", "fisher", "epe_nas", "zen", "plain", "l2_norm"
]

PROXIES: Mapping[str, Callable[[Probe], float]] = MappingProxyType(
    {
        "synflow": synflow,
        "nwot": nwot,
        "jacov": jacov,
        "snip": snip,
        "grad_norm": grad_norm,
        "grasp": grasp,
        "fisher": fisher,
        "epe_nas": epe_nas,
        "zen": zen,
        "plain": plain,
        "l2_norm": l2_norm,
    }
)
"""Name -> proxy; each but `plain` was made so that larger is better."""


def first_batch(task: Task, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the first training samples of an epoch, on the CPU.

    Args:
        task: the training split, in the order and with the augmentation of the seed.
        images: number of samples.
        seed: of the epoch.

    Raises:
        ConfigurationError: the training split has fewer samples in whole batches.
    """
    inputs, targets, count = [], [], 0
    full_batches(task, "train")
    for x, y in task.batches("train", 0, seed):
        inputs.append(x)
        targets.append(y)
        count += len(x)
        if count >= images:
            break
    if count < images:
        raise ConfigurationError(
            f"the training split has {count} samples in whole batches, fewer than {images}; lower it", path="images"
        )
    return torch.cat(inputs)[:images], torch.cat(targets)[:images]


def measure(names: Sequence[str], probe: Probe) -> dict[str, float]:
    """Return name -> value of proxies of one network."""
    return {name: float(PROXIES[name](probe)) for name in names}
