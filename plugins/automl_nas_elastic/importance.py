"""Which channels stay: the most important ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from automl_nas.channels import Owner, elements
from automl_nas_elastic.choices import Option, Width
from automl_nas_elastic.taylor import products_of

Importance: TypeAlias = Literal["l1", "bn_scale", "taylor"]


def orders(
    network: nn.Module, options: Iterable[Option], importance: Importance, gradients: Mapping[str, Tensor]
) -> dict[str, NDArray[np.int64]]:
    """Return name of each width -> its indices, the most important first; ties keep their order.

    Args:
        network: whose weights decide.
        options: of the network.
        importance: ``l1``: the sum of the absolute weights of a channel (Li et al. 2017, arXiv 1608.08710), in all
            layers that produce or use it, each divided by its mean; ``bn_scale``: the absolute scales of batch
            normalisation (Liu et al. 2017, arXiv 1708.06519), ``l1`` for channels without any; ``taylor``: the sum of
            weight times gradient, squared, as a mean over batches (Molchanov et al. 2019, arXiv 1906.10771, eq. 8).
        gradients: for ``taylor``, what `loss_products` returns, or name of a parameter -> gradient of the loss.
    """
    result = {}
    for option in options:
        if isinstance(option, Width):
            score = _scores(network, option, importance, gradients)
            result[option.name] = np.argsort(-score, kind="stable")
    return result


def _scores(
    network: nn.Module, width: Width, importance: Importance, gradients: Mapping[str, Tensor]
) -> NDArray[np.float64]:
    if importance == "taylor":
        return _taylor(network, width, gradients)
    weights, scales = np.zeros(width.atom.size), np.zeros(width.atom.size)
    for owner in width.owners:
        module = network.get_submodule(owner.path)
        parameter = module._parameters.get(owner.tensor)
        if parameter is None:
            continue
        values = parameter.detach().abs().double()
        others = [dim for dim in range(values.dim()) if dim != owner.dim]
        own = values.sum(others) if others else values
        score = _by_channel(own, owner, width)
        if isinstance(module, nn.modules.batchnorm._NormBase):
            scales += score if owner.tensor == "weight" else 0
        elif parameter.dim() > 1:
            weights += score / max(score.mean(), 1e-30)
    return scales if importance == "bn_scale" and scales.any() else weights


def _taylor(network: nn.Module, width: Width, gradients: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Return the mean over batches of the squared sum over all weights of a channel."""
    totals: list[NDArray[np.float64]] = []
    for owner in width.owners:
        parameter = network.get_submodule(owner.path)._parameters.get(owner.tensor)
        if parameter is None:
            continue
        name = f"{owner.path}.{owner.tensor}".lstrip(".")
        sums = products_of(gradients, name, parameter, owner.dim)
        if sums is not None:
            totals.append(np.stack([_by_channel(batch, owner, width) for batch in sums]))
    if not totals:
        return np.zeros(width.atom.size)
    squares: NDArray[np.float64] = np.square(np.sum(totals, axis=0)).mean(0)
    return squares


def _by_channel(values: Tensor, owner: Owner, width: Width) -> NDArray[np.float64]:
    element = elements(owner.axis, width.atom)
    inside = element >= 0
    weights: NDArray[np.float64] = values.double().cpu().numpy()[inside]
    return np.bincount(element[inside], weights=weights, minlength=width.atom.size).astype(np.float64, copy=False)
