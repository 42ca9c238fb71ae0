"""The operations of DSO-NAS blocks (Zhang et al., arXiv 1811.01567, section 4.1), and their costs."""

from __future__ import annotations

import re

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas_dso.space.edges import Cost

_KIND = re.compile(r"(sep|dil|conv|avg|max)([1-9]\d*)")


def parse(kind: str) -> tuple[str, int]:
    """Return family and kernel size of an operation, e.g. ``("sep", 3)`` for ``sep3``.

    ``sep``: separable convolution (depthwise, pointwise), ``dil``: the same with dilation 2, ``conv``: convolution,
    ``avg`` and ``max``: pooling. The family is followed by an odd kernel size.

    Raises:
        SpaceError: unknown operation.
    """
    match = _KIND.fullmatch(kind)
    if match is None or int(match[2]) % 2 == 0:
        raise SpaceError(
            f"unknown operation '{kind}'; use sep, dil, conv, avg or max and an odd kernel size, e.g. sep3"
        )
    return match[1], int(match[2])


def norm(channels: int, *, scale: bool = True) -> nn.BatchNorm2d:
    """Return a batch normalisation; without ``scale`` its weight is 1 and not trained."""
    layer = nn.BatchNorm2d(channels)
    layer.weight.requires_grad_(scale)
    return layer


def conv_norm_relu(inp: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return convolution, BN and ReLU; the convolution changes the size of the maps only by its stride."""
    return nn.Sequential(nn.Conv2d(inp, out, kernel, stride, kernel // 2, bias=False), norm(out), nn.ReLU(inplace=True))


def operation(kind: str, channels: int, *, repeats: int, pool_norm: bool, scale: bool) -> nn.Sequential:
    """Return an operation with stride 1, which keeps the size and the number of channels.

    Args:
        kind: see `parse`.
        channels: channels of input and output.
        repeats: number of applications of a separable convolution, each with its own weights, BN and ReLU.
        pool_norm: whether BN and ReLU follow a pooling.
        scale: whether batch normalisation learns a scale.

    Raises:
        SpaceError: unknown operation.
    """
    family, kernel = parse(kind)
    after = [norm(channels, scale=scale), nn.ReLU(inplace=True)]
    if family == "conv":
        return nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), *after)
    if family in ("avg", "max"):
        pool = nn.AvgPool2d if family == "avg" else nn.MaxPool2d
        return nn.Sequential(pool(kernel, stride=1, padding=kernel // 2), *(after if pool_norm else ()))
    dilation = 2 if family == "dil" else 1
    layers: list[nn.Module] = []
    for _ in range(repeats):
        depthwise = nn.Conv2d(
            channels,
            channels,
            kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            groups=channels,
            bias=False,
        )
        pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        layers += [depthwise, pointwise, norm(channels, scale=scale), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def operation_cost(kind: str, channels: int, points: int, *, repeats: int) -> Cost:
    """Return the cost of an operation.

    The memory access cost is ``4 h w c + k^2 c + c^2`` for a separable convolution and ``2 h w c`` for a pooling.

    Args:
        kind: see `parse`.
        channels: c.
        points: ``h w``, the number of pixels of a map.
        repeats: number of applications of a separable convolution.
    """
    family, kernel = parse(kind)
    if family in ("avg", "max"):
        return Cost(0, 2 * points * channels)
    if family == "conv":
        return convolution_cost(channels, channels, kernel, points, points)
    weights = kernel * kernel * channels + channels * channels
    return Cost(repeats * points * weights, repeats * (4 * points * channels + weights))


def convolution_cost(inp: int, out: int, kernel: int, points_in: int, points_out: int) -> Cost:
    """Return the cost of a dense convolution; ``points`` are the pixels of an input map and of an output map."""
    weights = kernel * kernel * inp * out
    return Cost(points_out * weights, points_in * inp + points_out * out + weights)


def output_edge_cost(channels: int, points: int) -> Cost:
    """Return the cost of an edge to the output of a block.

    The FLOPs are those of its slice of the 1x1 convolution. The memory access cost is ``2 h w c + c``, as in DSO-NAS: a
    map is read and written, and one weight for each channel.
    """
    return Cost(points * channels * channels, 2 * points * channels + channels)
