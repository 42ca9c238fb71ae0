"""All proxies by name, and computing them for architectures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Task, full_batches
from automl_nas.space import SearchSpace
from automl_nas.streams import stream
from automl_nas_proxies.outputs import NO_CLASSES, are_classes, epe_nas, has_units, jacov, nwot, zen
from automl_nas_proxies.probe import Probe
from automl_nas_proxies.weights import fisher, grad_norm, grasp, l2_norm, plain, snip, synflow

T = TypeVar("T")

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


SAMPLED = 20
"""Number of random networks of which one must have the units of `nwot`."""


def check_task(task: Task, names: Sequence[str], images: int) -> Tensor:
    """Check that a task has what proxies need, and return the inputs of two samples; one batch is read.

    Args:
        task: its training split is used.
        names: of the proxies.
        images: number of samples that they are computed on.

    Raises:
        ConfigurationError: the split is smaller, `epe_nas` has no classes, or `jacov`, `epe_nas` or `zen` have token
            numbers.
    """
    batches = full_batches(task, "train")
    inputs, targets = next(iter(task.batches("train", 0, 0)))
    if (count := batches * len(inputs)) < images:
        raise ConfigurationError(
            f"the training split has {count} samples in whole batches, fewer than {images}; lower it", path="images"
        )
    for number, name in enumerate(names):
        if name == "epe_nas" and not are_classes(targets):
            raise ConfigurationError(NO_CLASSES, path=f"proxies[{number}]")
        if name in ("jacov", "epe_nas", "zen") and not inputs.is_floating_point():
            raise ConfigurationError(
                f"{name} needs inputs that can change by little, and inputs of this task are integers; use another "
                "proxy, such as nwot, snip or synflow",
                path=f"proxies[{number}]",
            )
    return inputs[[0, -1]]


def check_space(
    space: SearchSpace, names: Sequence[str], inputs: Callable[[nn.Module], Tensor], paths: Sequence[str]
) -> None:
    """Check with random networks that `synflow` and `nwot` can have a value in a space.

    Args:
        space: builds the networks, from the global generator of torch.
        names: of the proxies.
        inputs: network -> two inputs.
        paths: for each proxy the place of its name in the settings.

    Raises:
        ConfigurationError: a network takes tokens that no table looks up, or none of `SAMPLED` networks has a unit.
    """

    def probes(count: int, path: str) -> Iterator[Probe]:
        for number in range(count):
            network = space.build(space.sample(stream(0, "zero-cost", number)))
            yield Probe(network, _located(partial(inputs, network), path))

    for name, path in zip(names, paths, strict=True):
        if name == "synflow":
            for probe in probes(1, path):
                _located(partial(synflow, probe), path)
        if name == "nwot" and not any(has_units(probe) for probe in probes(SAMPLED, path)):
            raise ConfigurationError(
                f"none of {SAMPLED} random networks of the space has an activation of the ReLU kind (relu, gelu, silu "
                "and others), which nwot looks at; use another proxy, such as synflow",
                path=path,
            )


def _located(compute: Callable[[], T], path: str) -> T:
    """Compute; an error gets the path of the setting."""
    try:
        return compute()
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path) from error


def measure(names: Sequence[str], probe: Probe) -> dict[str, float]:
    """Return name -> value of proxies of one network."""
    return {name: float(PROXIES[name](probe)) for name in names}
