"""The network of NAS-Bench-201 with its choice modules.

Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020,
arXiv 2001.00326, section 2.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from automl_nas.space import OneOf

NODES = 4
"""Number of nodes of a cell. Node 0 is its input, node 3 its output."""

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each edge of a cell, in the order of a code's digits."""


class Zero(nn.Module):
    """No connection: zeros in the shape of the input, through which no gradient flows."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x)


class Cell(nn.Module):
    """Four nodes; each is the sum of the outputs of its incoming edges.

    As in the benchmark, edges without an effect on the output run as well, so costs are sums over the edges.

    Args:
        channels: channels of all nodes.
        affine: whether batch normalisation has weights and biases.
    """

    def __init__(self, channels: int, affine: bool) -> None:
        super().__init__()
        # Edges of the same name are tied: all cells of the network have the same operations.
        self.edges = nn.ModuleList(OneOf(_operations(channels, affine), name=f"{a}>{b}") for a, b in EDGES)

    def forward(self, x: Tensor) -> Tensor:
        """Return node 3, in the shape of the input."""
        nodes = [x]
        edges = iter(self.edges)
        for node in range(1, NODES):
            # In the order of the sources, without a zero at the start: sums are rounded the same way every time.
            total: Tensor = next(edges)(nodes[0])
            for source in range(1, node):
                total = total + next(edges)(nodes[source])
            nodes.append(total)
        return nodes[-1]


class ReductionBlock(nn.Module):
    """A residual block that halves height and width: two 3x3 convolutions, and a shortcut of pooling and convolution.

    Args:
        inp: input channels.
        out: output channels.
    """

    def __init__(self, inp: int, out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*relu_conv_bn(inp, out, 3, stride=2), *relu_conv_bn(out, out, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inp, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return shape ``(batch, out, height / 2, width / 2)``."""
        short: Tensor = self.shortcut(x)
        y: Tensor = self.body(x)
        return short + y


def relu_conv_bn(inp: int, out: int, kernel: int, *, stride: int = 1, affine: bool = True) -> tuple[nn.Module, ...]:
    """Return ReLU, convolution without bias, batch normalisation."""
    # The ReLU is not in place: its input is a node that other edges read as well.
    convolution = nn.Conv2d(inp, out, kernel, stride, kernel // 2, bias=False)
    return nn.ReLU(), convolution, nn.BatchNorm2d(out, affine=affine)


def nasbench201_network(
    *, num_classes: int, image_channels: int, channels: int, cells: int, affine: bool
) -> nn.Sequential:
    """Return the whole network: three stages of ``cells`` tied cells, with reduction blocks between them.

    Args:
        num_classes: number of outputs.
        image_channels: channels of the images.
        channels: channels of the first stage; the other stages have 2 and 4 times as many.
        cells: number of cells of each stage.
        affine: whether batch normalisation in the cells has weights and biases; outside the cells it always has them.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    # The stem and the reductions have no ReLU at the end: every operation with weights begins with one.
    parts["stem"] = nn.Sequential(
        nn.Conv2d(image_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
    )
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            parts[f"reduction{stage}"] = ReductionBlock(width // 2, width)
        parts[f"stage{stage + 1}"] = nn.Sequential(
            OrderedDict((f"cell{number}", Cell(width, affine)) for number in range(1, cells + 1))
        )
    parts["last"] = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["linear"] = nn.Linear(width, num_classes)
    return nn.Sequential(parts)


def _operations(channels: int, affine: bool) -> dict[str, nn.Module]:
    return {
        "none": Zero(),
        "skip_connect": nn.Identity(),
        "nor_conv_1x1": nn.Sequential(*relu_conv_bn(channels, channels, 1, affine=affine)),
        "nor_conv_3x3": nn.Sequential(*relu_conv_bn(channels, channels, 3, affine=affine)),
        # Padding is not counted in the mean.
        "avg_pool_3x3": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }
