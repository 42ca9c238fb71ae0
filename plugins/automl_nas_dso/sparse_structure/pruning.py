"""From a network with scales to a plain network: remove parts whose scale is 0, fold the other scales into weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from automl_nas.channels import Narrowing, Plan, positions
from automl_nas_dso.sparse_structure.additions import without
from automl_nas_dso.sparse_structure.parts import NORMS, Part, factors


def plain_network(
    network: nn.Module, narrowing: Narrowing, parts: Sequence[Part], scales: Mapping[str, Tensor]
) -> nn.Module:
    """Return a copy of a network without its dead parts, with the other scales folded into its weights.

    Args:
        network: the network without hooks.
        narrowing: makes networks with fewer channels of it.
        parts: the parts that may be removed.
        scales: path of a part -> its scales, shape ``(part.count,)``. Where they are 0, the part is removed; of groups
            and neurons at least one stays.
    """
    plan, dead = Plan(), []
    for part in parts:
        live = (scales[part.path] != 0).cpu()
        if part.addition is not None and not bool(live.any()):
            dead.append(part.addition)
        if part.atom is not None and not bool(live.all()):
            if not bool(live.any()):
                live[0] = True  # a layer needs one neuron or group; its output is 0
            plan.keep(part.atom, live.nonzero().flatten().numpy())
    plain = narrowing.extract(network, plan)
    for part in parts:
        for output in part.outputs:
            own = factors(scales[part.path].detach(), output.places(part.atom))
            places = positions(output.axis, plan.indices)
            if part.atom is not None and places is not None:
                own = own[torch.from_numpy(places).to(own.device)]
            _fold(plain.get_submodule(output.path), own)
    return without(plain, dead)


def _fold(layer: nn.Module, scales: Tensor) -> None:
    """Multiply the weight and the bias of a layer, in place. A normalisation that is not affine becomes affine.

    Args:
        layer: convolution, linear layer or batch normalisation.
        scales: of its output, shape ``(channels,)`` or ``(1,)``.
    """
    if isinstance(layer, NORMS) and not layer.affine:
        assert layer.running_var is not None
        one = torch.ones_like(layer.running_var)
        layer.affine = True
        layer.weight, layer.bias = nn.Parameter(one), nn.Parameter(torch.zeros_like(one))
    with torch.no_grad():
        for tensor in (layer.weight, layer.bias):
            if isinstance(tensor, Tensor):
                tensor.mul_(scales.to(tensor).view(-1, *[1] * (tensor.dim() - 1)))
