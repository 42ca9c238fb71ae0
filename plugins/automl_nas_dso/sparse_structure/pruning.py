"""From a network with scales to a plain network: fold scales into weights, remove parts whose scale is 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from automl_nas_dso.sparse_structure.parts import CONVOLUTIONS, NORMS, Part, trace


def fold(network: nn.Module, part: Part, scales: Tensor) -> None:
    """Multiply the weights of a part's layer or batch normalisation by its scales, in place.

    A normalisation that is not affine becomes affine.

    Args:
        network: the network without hooks.
        part: the part of the scales.
        scales: shape ``(part.count,)``.
    """
    module = network.get_submodule(part.path)
    width = int(module.num_features) if isinstance(module, NORMS) else int(module.weight.shape[0])  # type: ignore[index]
    factors = scales.detach().repeat_interleave(width // part.count)
    if isinstance(module, NORMS) and not module.affine:
        module.affine = True
        module.weight, module.bias = nn.Parameter(torch.ones_like(factors)), nn.Parameter(torch.zeros_like(factors))
    with torch.no_grad():
        for tensor in (module.weight, module.bias):
            if isinstance(tensor, Tensor):
                tensor.mul_(factors.to(tensor).view(-1, *[1] * (tensor.dim() - 1)))


def cut(network: nn.Module, parts: Sequence[Part], live: Mapping[str, Tensor]) -> nn.Module:
    """Return the network without its dead parts: layers are narrowed in place, branches are removed from its graph.

    Args:
        network: the network with the scales folded in.
        parts: the parts that may be removed.
        live: path of a part -> which of its scales are not 0, boolean, shape ``(part.count,)``. At least one group or
            neuron of a layer must be live.
    """
    for part in parts:
        if part.layer:
            _narrow(network, part, live[part.path])
    dead = [part for part in parts if part.node and not bool(live[part.path].any())]
    return _without(network, dead) if dead else network


def _narrow(network: nn.Module, part: Part, live: Tensor) -> None:
    layer = network.get_submodule(part.layer)
    outputs = live.repeat_interleave(int(layer.weight.shape[0]) // part.count)  # type: ignore[index]
    if part.before:
        assert isinstance(layer, CONVOLUTIONS)
        inputs = live.repeat_interleave(layer.in_channels // part.count)
        layer.groups, layer.in_channels = int(live.sum()), int(inputs.sum())
        for path in part.before:
            _keep(network.get_submodule(path), inputs, 0)
    _keep(layer, outputs, 0)
    if part.path != part.layer:
        _keep(network.get_submodule(part.path), outputs, 0)
    for consumer in part.consumers:
        _keep(network.get_submodule(consumer.path), outputs.repeat_interleave(consumer.factor), 1)


_SIZES = ("num_features", "out_features", "out_channels"), ("", "in_features", "in_channels")
"""Names of a module's attributes for the size of its outputs and of its inputs."""


def _keep(module: nn.Module, mask: Tensor, axis: int) -> None:
    """Keep some outputs (axis 0) or inputs (axis 1) of a layer or a normalisation, in place."""
    places = mask.nonzero().flatten()
    names = ["weight"] if axis else ["weight", "bias", "running_mean", "running_var"]
    for name in names:
        tensor = getattr(module, name, None)
        if tensor is None:
            continue
        remaining = tensor.detach().index_select(axis, places.to(tensor.device)).clone()
        if isinstance(tensor, nn.Parameter):
            remaining = nn.Parameter(remaining, requires_grad=tensor.requires_grad)
        setattr(module, name, remaining)
    for size in _SIZES[axis]:
        if size and hasattr(module, size):
            setattr(module, size, len(places))


def _without(network: nn.Module, dead: Sequence[Part]) -> nn.Module:
    """Return the graph of the network in which the addition of a dead branch is replaced by its other argument."""
    plain = fx.GraphModule(network, trace(network))
    nodes = {node.name: node for node in plain.graph.nodes}
    for part in dead:
        node = nodes[part.node]
        other = node.args[1 - part.place]
        assert isinstance(other, fx.Node)
        node.replace_all_uses_with(other)
    plain.graph.eliminate_dead_code()
    plain.delete_all_unused_submodules()
    plain.recompile()
    plain.training = network.training
    for module in plain.modules():
        # A module that changed the sum in place would now change the shortcut, which other modules may read.
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return plain
