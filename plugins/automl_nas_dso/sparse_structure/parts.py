"""The parts of an ordinary network that can be scaled, and removed if their scale is 0."""

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
# Modules and functions that process each channel separately and map a channel of zeros to zeros.
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
    """A layer that reads channels which may be removed.

    Attributes:
        path: path of a convolution or linear layer.
        factor: number of its consecutive inputs for each channel (more than 1 after a flattening).
    """

    path: str
    factor: int


@dataclass(frozen=True)
class Part:
    """A part of a network with its own vector of scales.

    Attributes:
        path: the module whose output is scaled: batch normalisation, or the convolution or linear layer itself.
        count: number of scales: one for a residual branch, otherwise one for each group or neuron.
        layer: for groups and neurons: the convolution or linear layer whose outputs they are.
        before: for groups: the dense layer (and its normalisations) that only the grouped convolution reads.
        consumers: for groups and neurons: the layers that read them.
        node: for residual branches: the name of the addition in the graph.
        place: index of the branch among the two arguments of the addition.
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
        SpaceError: torch.fx cannot trace it.
    """
    try:
        return fx.Tracer().trace(network)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise SpaceError(
            f"the network cannot be traced by torch.fx ({str(error).splitlines()[0]}), so its parts cannot be "
            "determined; its forward must not branch on the values of tensors"
        ) from error


def find(network: nn.Module, kind: Kind) -> list[Part]:
    """Return the parts of a network that can be removed, in the order of its graph.

    ``blocks``: branches of additions that end in a convolution, linear layer or batch normalisation and have more
    layers than the other argument. ``groups``: groups of grouped convolutions, also depthwise ones. ``neurons``:
    outputs of dense layers. The readers of groups and neurons must be dense layers; between them only modules and
    functions that map a channel of zeros to zeros are allowed. Modules that are used twice in the network are omitted.

    Raises:
        SpaceError: the network cannot be traced, or has no part of this kind.
    """
    graph = trace(network)
    finder = _Finder(network, graph)
    parts = list({"blocks": finder.blocks, "groups": finder.groups, "neurons": finder.neurons}[kind]())
    if not parts:
        raise SpaceError(
            f"the network has no {kind} that can be removed without changing other outputs; use another kind"
        )
    return parts


class _Finder:
    def __init__(self, network: nn.Module, graph: fx.Graph) -> None:
        self._network, self._graph = network, graph
        self._calls: dict[str, int] = {}
        for node in graph.nodes:
            if node.op == "call_module":
                self._calls[node.target] = self._calls.get(node.target, 0) + 1

    def _module(self, node: object) -> nn.Module | None:
        """Return the module that a node calls; None if it calls no module, or if another node uses its parameters."""
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
        ancestors: dict[fx.Node, frozenset[fx.Node]] = {}
        for node in self._graph.nodes:
            ancestors[node] = frozenset({node}).union(*(ancestors[each] for each in node.all_input_nodes))
        return ancestors

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
        """Return the batch normalisation that is the only reader of a layer; otherwise the layer itself."""
        users = list(node.users)
        return users[0] if len(users) == 1 and isinstance(self._module(users[0]), NORMS) else node

    def _readers(self, node: fx.Node, width: int) -> tuple[Consumer, ...]:
        """Return the dense layers that read a node with ``width`` channels; empty if anything else reads it, too."""
        consumers: list[Consumer] = []
        for user in node.users:
            module = self._module(user)
            if isinstance(module, _LAYERS) and _groups(module) == 1:
                factor, rest = divmod(int(module.weight.shape[1]), width)
                if rest:
                    return ()
                consumers.append(Consumer(str(user.target), factor))
                continue
            if not self._transparent(user, module) and not _flattens(user, module):
                return ()
            further = self._readers(user, width)
            if not further:
                return ()
            consumers += further
        return tuple(consumers)

    def _transparent(self, node: fx.Node, module: nn.Module | None) -> bool:
        return (
            isinstance(module, _TRANSPARENT_MODULES)
            or (node.op == "call_function" and node.target in _TRANSPARENT_FUNCTIONS)
            or (node.op == "call_method" and node.target in _TRANSPARENT_METHODS)
        )

    def _before(self, node: fx.Node) -> tuple[str, ...]:
        """Return the dense layer that only this grouped convolution reads, and its normalisations; otherwise empty."""
        source = node.all_input_nodes[0]
        normalisations: list[str] = []
        while len(source.users) == 1:
            module = self._module(source)
            if isinstance(module, _LAYERS) and _groups(module) == 1:
                return (str(source.target), *normalisations)
            if isinstance(module, NORMS):
                normalisations.append(str(source.target))
            elif not self._transparent(source, module):
                return ()
            source = source.all_input_nodes[0]
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
