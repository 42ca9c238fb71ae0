"""Networks of derived cells, their stems for small and large images, and the auxiliary head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
from torch import Tensor, nn

from automl_nas_gradient.space.genotype import CellPlan, Genotype
from automl_nas_gradient.space.operations import DropPath, FactorizedReduce, PartialChannels, operation, relu_conv_bn

AUXILIARY_CHANNELS = (128, 768)
"""Channels of the two convolutions of the auxiliary head, as in NASNet."""

MakeEdge = Callable[[str, int, int, int], nn.Module]
"""``make(operation, source, channels, stride)`` returns the module of an input of a node."""


@dataclass(frozen=True)
class Layout:
    """The sizes of a network.

    Attributes:
        num_classes: outputs.
        input_shape: channels, height and width of an image.
        channels: C, channels of a node in the first cells; each reduction doubles them.
        layers: number of cells; those at a third and two thirds are reductions.
        stem: ``cifar``: a 3x3 convolution; ``imagenet``: three of stride 2.
        affine: whether batch normalisation in the cells has weights and biases.
        pool_norm: whether batch normalisation follows poolings.
        partial: k; operations process 1/k of the channels.
        drop_path: final probability of dropping the output of an operation.
        drop_path_iterations: training batches until the final probability.
        auxiliary: whether the network is trained with an auxiliary head.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    channels: int
    layers: int
    stem: Literal["cifar", "imagenet"] = "cifar"
    affine: bool = True
    pool_norm: bool = False
    partial: int = 1
    drop_path: float = 0.0
    drop_path_iterations: int = 1
    auxiliary: bool = False

    @property
    def reductions(self) -> tuple[int, ...]:
        """The numbers of the cells that are reductions."""
        return (self.layers // 3, 2 * self.layers // 3)


@dataclass(frozen=True)
class CellSizes:
    """Input channels of the two states, channels of the nodes, and which of the cell and the one before reduces."""

    before: int
    last: int
    channels: int
    reduces: bool
    reduced_before: bool


def cell_sizes(layout: Layout, outputs: tuple[int, int]) -> list[CellSizes]:
    """Return the sizes of all cells.

    Args:
        layout: the layout.
        outputs: how many states a normal cell and a reduction concatenate.
    """
    large = layout.stem == "imagenet"
    before = last = layout.channels * (1 if large else 3)
    channels, reduced, sizes = layout.channels, large, []
    for number in range(layout.layers):
        reduces = number in layout.reductions
        channels *= 2 if reduces else 1
        sizes.append(CellSizes(before, last, channels, reduces, reduced))
        before, last, reduced = last, outputs[reduces] * channels, reduces
    return sizes


class Stem(nn.Module):
    """Returns the two states that the first cell reads."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        inp, width = layout.input_shape[0], layout.channels
        if layout.stem == "cifar":
            self.first = nn.Sequential(nn.Conv2d(inp, 3 * width, 3, 1, 1, bias=False), nn.BatchNorm2d(3 * width))
            self.second: nn.Module | None = None
            return
        self.first = nn.Sequential(
            nn.Conv2d(inp, width // 2, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, width, 3, 2, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states 0 and 1."""
        first = self.first(x)
        return first, first if self.second is None else self.second(first)


def preprocessing(sizes: CellSizes, *, affine: bool) -> tuple[nn.Module, nn.Module]:
    """Return the modules that bring the two input states to the channels and the size of the cell."""
    first = (
        FactorizedReduce(sizes.before, sizes.channels, affine=affine)
        if sizes.reduced_before
        else relu_conv_bn(sizes.before, sizes.channels, affine=affine)
    )
    return first, relu_conv_bn(sizes.last, sizes.channels, affine=affine)


@final
class Cell(nn.Module):
    """A derived cell.

    Args:
        preprocess: brings the two input states to the channels of the cell.
        inputs: for each node, the source and the module of each of its inputs.
        output: the states that are concatenated.
    """

    def __init__(
        self,
        preprocess: tuple[nn.Module, nn.Module],
        inputs: Sequence[Sequence[tuple[int, nn.Module]]],
        output: Sequence[int],
    ) -> None:
        super().__init__()
        self.preprocess0, self.preprocess1 = preprocess
        self.nodes = nn.ModuleList(nn.ModuleList(module for _, module in node) for node in inputs)
        self._sources = [[source for source, _ in node] for node in inputs]
        self._output = tuple(output)

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Return the concatenated states."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        for modules, sources in zip(self.nodes, self._sources, strict=True):
            total: Tensor | None = None
            for source, module in zip(sources, cast(nn.ModuleList, modules), strict=True):
                part = module(states[source])
                total = part if total is None else total + part
            states.append(torch.zeros_like(states[1]) if total is None else total)
        return torch.cat([states[state] for state in self._output], dim=1)


class DartsNetwork(nn.Module):
    """Stem, cells and head.

    Args:
        layout: the layout; if it has an auxiliary head, so does the training form.
        cells: the cells.
        channels: of the output of each cell.
    """

    def __init__(self, layout: Layout, cells: Sequence[nn.Module], channels: Sequence[int]) -> None:
        super().__init__()
        self.stem = Stem(layout)
        self.cells = nn.ModuleList(cells)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], layout.num_classes))
        self._layout, self._branch = layout, layout.reductions[-1]
        self._branch_channels = channels[self._branch]

    def states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output of the last cell, and that of the second reduction."""
        before, last = self.stem(x)
        branch = last
        for number, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if number == self._branch:
                branch = last
        return last, branch

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape ``(batch, num_classes)``."""
        logits: Tensor = self.head(self.states(x)[0])
        return logits


@final
class TrainedWithHead(DartsNetwork):
    """A network that is trained with an auxiliary head, which is not part of it."""

    def training_form(self) -> nn.Module:
        """Return the network with a fresh head."""
        return WithHead(self, auxiliary_head(self._layout, self._branch_channels))


@final
class WithHead(nn.Module):
    """A network and its auxiliary head: ``(outputs, auxiliary)`` in training, outputs otherwise."""

    def __init__(self, network: DartsNetwork, auxiliary: nn.Module) -> None:
        super().__init__()
        self.network, self.auxiliary = network, auxiliary

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits of shape ``(batch, num_classes)``; in training a pair, those of both heads."""
        last, branch = self.network.states(x)
        logits: Tensor = self.network.head(last)
        return (logits, self.auxiliary(branch)) if self.training else logits


def auxiliary_head(layout: Layout, channels: int) -> nn.Sequential:
    """Return the head of NASNet: pooling to 2x2, convolutions of 1x1 and 2x2, linear layer.

    As in the authors' code, the head for ImageNet lacks the second batch normalisation. Maps of 8x8 (7x7 for ImageNet)
    are pooled by windows of 5x5 with stride 3 (2); others to 2x2 as well.
    """
    large = layout.stem == "imagenet"
    size = tuple(length // (32 if large else 4) for length in layout.input_shape[1:])
    standard = size == ((7, 7) if large else (8, 8))
    narrow, wide = AUXILIARY_CHANNELS
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, 2 if large else 3) if standard else nn.AdaptiveAvgPool2d(2),
        nn.Conv2d(channels, narrow, 1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(inplace=True),
        nn.Conv2d(narrow, wide, 2, bias=False),
        *(() if large else (nn.BatchNorm2d(wide),)),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(wide, layout.num_classes),
    )


def make_edge(layout: Layout) -> MakeEdge:
    """Return a function that makes the input of a node."""

    def make(name: str, source: int, channels: int, stride: int) -> nn.Module:
        module = operation(name, channels // layout.partial, stride, affine=layout.affine, pool_norm=layout.pool_norm)
        if layout.partial > 1:
            module = PartialChannels(module, layout.partial, stride)
        if layout.drop_path and not isinstance(module, nn.Identity):
            module = nn.Sequential(module, DropPath(layout.drop_path, layout.drop_path_iterations))
        return module

    return make


def darts_network(genotype: Genotype, layout: Layout) -> DartsNetwork:
    """Return a network of derived cells with fresh weights."""
    plans = (genotype.normal, genotype.reduce)
    make = make_edge(layout)
    sizes = cell_sizes(layout, (len(plans[0].output), len(plans[1].output)))
    cells = [_cell(plans[size.reduces], size, layout, make) for size in sizes]
    outputs = [len(plans[size.reduces].output) * size.channels for size in sizes]
    return (TrainedWithHead if layout.auxiliary else DartsNetwork)(layout, cells, outputs)


def _cell(plan: CellPlan, sizes: CellSizes, layout: Layout, make: MakeEdge) -> Cell:
    inputs = [
        [
            (source, make(name, source, sizes.channels, 2 if sizes.reduces and source < 2 else 1))
            for name, source in node
        ]
        for node in plan.nodes
    ]
    return Cell(preprocessing(sizes, affine=layout.affine), inputs, plan.output)
