"""Which parts of an ordinary network can be scaled, and cut off where the scale is 0."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import fx, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError

Kind: TypeAlias = Literal["blocks", "groups", "neurons"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
# What works on each channel by itself and gives 0 for a channel of zeros.
_TRANSPARENT_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Tanh, nn.Identity),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool2d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
)
_TRANSPARENT_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu, F.hardswish, torch.relu, torch.tanh, F.dropout),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
)
_TRANSPARENT_METHODS = ("relu", "relu_", "tanh", "contiguous")


@dataclass(frozen=True)
class Consumer:
    """A layer that reads what may be cut off.

    Attributes:
        path: of a convolution or linear layer.
        factor: how many of its inputs, one after the other, belong to a channel (behind a flattening more than 1).
    """

    path: str
    factor: int


@dataclass(frozen=True)
class Part:
    """What one vector of scales belongs to.

    Attributes:
        path: the module whose output is scaled: batch normalisation, or the convolution or linear layer itself.
        count: scales: one for a residual branch, otherwise one for each group or neuron.
        layer: for groups and neurons: the convolution or linear layer whose outputs they are.
        before: for groups: the layers (with their normalisation) whose outputs the grouped convolution alone reads.
        consumers: for groups and neurons: who reads them.
        node: for residual branches: the addition, by its name in the graph.
        place: which of the addition's two arguments the branch is.
    """

    path: str
    count: int
    layer: str = ""
    before: tuple[str, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    node: str = ""
    place: int = 0


def trace(network: nn.Module) -> fx.Graph:
    """Return the graph of a network.

    Raises:
        SpaceError: its forward depends on values.
    """
    try:
        return fx.Tracer().trace(network)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise SpaceError(
            f"the network cannot be traced by torch.fx ({str(error).splitlines()[0]}), so what depends on what is not "
            "known; its forward must not branch on the values of tensors"
        ) from error


def find(network: nn.Module, kind: Kind) -> list[Part]:
    """Return the parts of a network that can be cut off, in the order of its graph.

    ``blocks``: branches of additions that end in a convolution, linear layer or batch normalisation and have more
    layers than the other side. ``groups``: those of grouped convolutions, also depthwise ones. ``neurons``: outputs of
    dense layers. Groups and neurons need readers that are dense layers, behind nothing but what leaves a channel of
    zeros zero; what is used in two places of the network is left out.

    Raises:
        SpaceError: it cannot be traced, or has no such part.
    """
    graph = trace(network)
    finder = _Finder(network, graph)
    found = list({"blocks": finder.blocks, "groups": finder.groups, "neurons": finder.neurons}[kind]())
    if not found:
        raise SpaceError(f"the network has no {kind} that could be cut off without changing the rest")
    return found


class _Finder:
    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        self._network, self._graph = network, graph
        self._calls: dict[str, int] = {}
        for node in graph.nodes:
            if node.op == "call_module":
                self._calls[node.target] = self._calls.get(node.target, 0) + 1

    def _module(self, node: object) -> nn.Module | None:
        """Return the module that a node calls, if its parameters serve this node alone."""
        if not isinstance(node, fx.Node) or node.op != "call_module":
            return None
        module = self._network.get_submodule(str(node.target))
        shared = self._calls[str(node.target)] > 1 and any(True for _ in module.parameters())
        return None if shared else module

    def blocks(self) -> Iterator[Part]:
        ancestors = self._ancestors()
        for node in self._graph.nodes:
            added = (node.op == "call_function" and node.target in _ADDITIONS) or (
                node.op == "call_method" and node.target in ("add", "add_")
            )
            sides = [argument for argument in node.args if isinstance(argument, fx.Node)]
            if not added or len(sides) != 2 or len(node.args) != 2 or node.kwargs:
                continue
            layers = [ancestors[side] - ancestors[other] for side, other in (sides, sides[::-1])]
            depths = [sum(1 for each in own if isinstance(self._module(each), _LAYERS)) for own in layers]
            place = int(depths[1] > depths[0])
            branch = sides[place]
            if depths[0] != depths[1] and len(branch.users) == 1 and isinstance(self._module(branch), _SCALABLE):
                yield Part(str(branch.target), 1, node=node.name, place=place)

    def _ancestors(self) -> dict[fx.Node, frozenset[fx.Node]]:
        found: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in self._graph.nodes:
            found[node] = frozenset({node}).union(*(found[each] for each in node.all_input_nodes))
        return found

    def neurons(self) -> Iterator[Part]:
        for node in self._graph.nodes:
            layer = self._module(node)
            if isinstance(layer, _LAYERS) and _groups(layer) == 1:
                end = self._normalised(node)
                consumers = self._readers(end, _width(layer))
                if consumers:
                    yield Part(str(end.target), _width(layer), layer=str(node.target), consumers=consumers)

    def groups(self) -> Iterator[Part]:
        for node in self._graph.nodes:
            layer = self._module(node)
            if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
                before = self._before(node)
                end = self._normalised(node)
                consumers = self._readers(end, _width(layer))
                if before and consumers:
                    yield Part(str(end.target), layer.groups, str(node.target), before, consumers)

    def _normalised(self, node: fx.Node) -> fx.Node:
        """Return the batch normalisation that alone reads a layer, or the layer."""
        users = list(node.users)
        return users[0] if len(users) == 1 and isinstance(self._module(users[0]), NORMS) else node

    def _readers(self, node: fx.Node, width: int) -> tuple[Consumer, ...]:
        """Return all layers that read a node of so many channels; none if anything else does."""
        found: list[Consumer] = []
        for user in node.users:
            module = self._module(user)
            if isinstance(module, _LAYERS) and _groups(module) == 1:
                factor, rest = divmod(int(module.weight.shape[1]), width)
                if rest:
                    return ()
                found.append(Consumer(str(user.target), factor))
                continue
            if not self._transparent(user, module) and not _flattens(user, module):
                return ()
            further = self._readers(user, width)
            if not further:
                return ()
            found += further
        return tuple(found)

    def _transparent(self, node: fx.Node, module: nn.Module | None) -> bool:
        return (
            isinstance(module, _TRANSPARENT_MODULES)
            or (node.op == "call_function" and node.target in _TRANSPARENT_FUNCTIONS)
            or (node.op == "call_method" and node.target in _TRANSPARENT_METHODS)
        )

    def _before(self, node: fx.Node) -> tuple[str, ...]:
        """Return the dense layer that a grouped convolution alone reads, and its normalisation; none otherwise."""
        here = node.all_input_nodes[0]
        passed: list[str] = []
        while len(here.users) == 1:
            module = self._module(here)
            if isinstance(module, _LAYERS) and _groups(module) == 1:
                return (str(here.target), *passed)
            if isinstance(module, NORMS):
                passed.append(str(here.target))
            elif not self._transparent(here, module):
                return ()
            here = here.all_input_nodes[0]
        return ()


_LAYERS = (*CONVOLUTIONS, nn.Linear)
_SCALABLE = (*_LAYERS, *NORMS)


def _groups(layer: nn.Module) -> int:
    return int(getattr(layer, "groups", 1))


def _width(layer: nn.Module) -> int:
    return int(layer.weight.shape[0])  # type: ignore[index]


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    flatten = (node.op == "call_function" and node.target is torch.flatten) or (
        node.op == "call_method" and node.target == "flatten"
    )
    return flatten and node.args[1:] == (1,) and not node.kwargs
