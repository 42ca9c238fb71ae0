"""What the loss says about channels: products of weights and gradients on a few batches of a task."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Runtime, Task

BATCHES = 8
"""Number of training batches by default."""


def loss_products(
    network: nn.Module, task: Task, runtime: Runtime, *, seed: int, batches: int = BATCHES
) -> dict[str, Tensor]:
    """Return sums of weight times gradient of the loss, for the importance ``taylor`` of `ElasticSpace`.

    The network is in evaluation mode, as it will be used. Each batch has its own sums: in a trained network the
    gradients of batches nearly cancel, and the squares of their sums do not (Molchanov et al. 2019, arXiv 1906.10771,
    equation 8).

    Args:
        network: with trained weights; a copy is used.
        task: training batches and loss.
        runtime: where it is computed.
        seed: of the batches.
        batches: number of training batches; fewer if an epoch is shorter.

    Returns:
        ``NAME:DIM`` for each dimension of each parameter -> the sums over the other dimensions, shape (batches, size).

    Raises:
        ConfigurationError: no parameter has a gradient.
    """
    copied = runtime.place(copy.deepcopy(network)).eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    sums: dict[str, list[Tensor]] = {}
    with runtime.seeded(seed, "importance"):
        for inputs, targets in islice(task.batches("train", 0, seed), batches):
            copied.zero_grad(set_to_none=True)
            with torch.enable_grad():
                task.loss(copied(runtime.tensor(inputs)), runtime.tensor(targets)).backward()  # type: ignore[no-untyped-call]
            for name, values in _sums(copied):
                sums.setdefault(name, []).append(values)
    if not sums:
        raise ConfigurationError("no parameter of the model has a gradient of the task's loss", path="importance")
    return {name: torch.stack(values) for name, values in sums.items()}


def products_of(gradients: Mapping[str, Tensor], name: str, parameter: Tensor, dim: int) -> Tensor | None:
    """Return the sums of a parameter along a dimension, shape (batches, size).

    Args:
        gradients: what `loss_products` returns, or name of a parameter -> gradient.
        name: of the parameter.
        parameter: the weights.
        dim: the dimension that is kept.

    Returns:
        The sums; None: there is no gradient.
    """
    if (sums := gradients.get(f"{name}:{dim}")) is not None:
        return sums.double()
    if (gradient := gradients.get(name)) is None:
        return None
    return _along((parameter.detach() * gradient).double().cpu(), dim)[None]


def _sums(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if parameter.grad is not None:
            product = (parameter.detach() * parameter.grad).float().cpu()
            for dim in range(product.dim()):
                yield f"{name}:{dim}", _along(product, dim)


def _along(values: Tensor, dim: int) -> Tensor:
    others = [other for other in range(values.dim()) if other != dim]
    return values.sum(others) if others else values
