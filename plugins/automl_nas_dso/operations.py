"""The operations of DSO-NAS blocks (Zhang et al., arXiv 1811.01567, section 4.1), and what they cost."""

from __future__ import annotations

import re

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas_dso.edges import Cost

_KIND = re.compile(r"(sep|dil|conv|avg|max)([1-9]\d*)")


def parse(kind: str) -> tuple[str, int]:
    """Return the family and the kernel of a kind of operation.

    ``sep``: separable convolution (depthwise, pointwise), ``dil``: the same with dilation 2, ``conv``: convolution,
    ``avg`` and ``max``: pooling; each followed by the kernel's size, e.g. ``sep3``.

    Raises:
        SpaceError: there is no such operation.
    """
    match = _KIND.fullmatch(kind)
    if match is None or int(match[2]) % 2 == 0:
        raise SpaceError(
            f"there is no operation '{kind}'; an operation is sep, dil, conv, avg or max and an odd kernel, e.g. sep3"
        )
    return match[1], int(match[2])


def norm(channels: int, *, scale: bool = True) -> nn.BatchNorm2d:
    """Return a batch normalisation; without ``scale`` its weight stays 1 (it is there, but is not trained)."""
    layer = nn.BatchNorm2d(channels)
    layer.weight.requires_grad_(scale)
    return layer


def conv_norm_relu(inp: int, out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size (but for the stride), BN and ReLU."""
    return nn.Sequential(nn.Conv2d(inp, out, kernel, stride, kernel // 2, bias=False), norm(out), nn.ReLU(inplace=True))


def operation(kind: str, channels: int, *, repeats: int, pool_norm: bool, scale: bool) -> nn.Sequential:
    """Return an operation: stride 1, same padding, as many channels out as in.

    Args:
        kind: see `parse`.
        channels: of input and output.
        repeats: how often a separable convolution is applied, each time with its own weights, BN and ReLU.
        pool_norm: whether BN and ReLU follow a pooling.
        scale: whether batch normalisation learns a scale.

    Raises:
        SpaceError: there is no such operation.
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
    """Return what an operation costs: ``4 h w c + k^2 c + c^2`` accesses if separable, ``2 h w c`` for a pooling.

    Args:
        kind: see `parse`.
        channels: c.
        points: h w.
        repeats: of separable convolutions.
    """
    family, kernel = parse(kind)
    if family in ("avg", "max"):
        return Cost(0, 2 * points * channels)
    if family == "conv":
        return convolution_cost(channels, channels, kernel, points, points)
    weights = kernel * kernel * channels + channels * channels
    return Cost(repeats * points * weights, repeats * (4 * points * channels + weights))


def convolution_cost(inp: int, out: int, kernel: int, points_in: int, points_out: int) -> Cost:
    """Return what a dense convolution costs."""
    weights = kernel * kernel * inp * out
    return Cost(points_out * weights, points_in * inp + points_out * out + weights)


def output_edge_cost(channels: int, points: int) -> Cost:
    """Return what an edge to the output of a block costs.

    The multiply-adds are those of its slice of the 1x1 convolution. The accesses are ``2 h w c + c``, as DSO-NAS counts
    them: a map read and written, and one weight for each channel.
    """
    return Cost(points * channels * channels, 2 * points * channels + channels)
