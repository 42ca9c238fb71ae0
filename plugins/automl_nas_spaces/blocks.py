"""The building blocks of the SPOS search space (Guo et al., arXiv 1904.00420, section 4): plain torch modules.

Convolutions have no bias. ``affine`` sets whether batch normalisation has weights and biases. A width inside a block
may be searched; then its layers are elastic: they have weights for the largest width and use the first ones (section
3.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.space import ElasticBatchNorm2d, ElasticConv2d, Scalar


@final
@dataclass(frozen=True)
class Searched:
    """A width that a decision determines.

    Attributes:
        name: name of the decision.
        options: option -> channels.
    """

    name: str
    options: Mapping[Scalar, int]


Width: TypeAlias = int | Searched


class ShuffleBlock(nn.Module):
    """A block that keeps size and width: half of the channels pass unchanged, the others go through the main branch.

    The split is by parity, which is the channel shuffle of ShuffleNetV2: even-numbered channels pass, odd-numbered ones
    are transformed, and the output is (even, main). Input and output have the shape ``(batch, channels, height,
    width)``; ``channels`` is a multiple of 2.

    Args:
        main: its input and output have half of the channels.
    """

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """Return (even channels, main branch of the odd channels)."""
        even, odd = torch.unflatten(x, 1, (-1, 2)).unbind(2)
        return torch.cat((even, self.main(odd)), 1)


class ProjectionBlock(nn.Module):
    """A block that changes size or width: the whole input goes through both branches.

    Args:
        projection: ``inp -> inp`` channels.
        main: ``inp -> out - inp`` channels.
    """

    def __init__(self, projection: nn.Module, main: nn.Module) -> None:
        super().__init__()
        self.projection = projection
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """Return (projection, main branch)."""
        return torch.cat((self.projection(x), self.main(x)), 1)


def pointwise(inp: Width, out: Width, affine: bool) -> list[nn.Module]:
    """Return a 1x1 convolution, BN and ReLU."""
    convolution: nn.Module
    if isinstance(out, Searched):
        convolution = ElasticConv2d(_largest(inp), out.options, 1, bias=False, name=out.name)
    elif isinstance(inp, Searched):
        convolution = ElasticConv2d(_largest(inp), out, 1, bias=False)
    else:
        convolution = nn.Conv2d(inp, out, 1, bias=False)
    return [convolution, _norm(out, affine), nn.ReLU(inplace=True)]


def depthwise(channels: Width, kernel: int, stride: int, affine: bool) -> list[nn.Module]:
    """Return a depthwise convolution, which changes the size only by its stride, and BN; no ReLU."""
    most = _largest(channels)
    make = ElasticConv2d if isinstance(channels, Searched) else nn.Conv2d
    convolution = make(most, most, kernel, stride, kernel // 2, groups=most, bias=False)
    return [convolution, _norm(channels, affine)]


def _norm(channels: Width, affine: bool) -> nn.Module:
    make = ElasticBatchNorm2d if isinstance(channels, Searched) else nn.BatchNorm2d
    return make(_largest(channels), affine=affine)


def _largest(width: Width) -> int:
    return max(width.options.values()) if isinstance(width, Searched) else width


def shuffle_main(inp: int, mid: Width, out: int, kernel: int, stride: int, affine: bool) -> nn.Sequential:
    """Return the main branch of a shuffle block: 1x1, depthwise, 1x1."""
    return nn.Sequential(
        *pointwise(inp, mid, affine), *depthwise(mid, kernel, stride, affine), *pointwise(mid, out, affine)
    )


def xception_main(inp: int, mid: Width, out: int, stride: int, affine: bool) -> nn.Sequential:
    """Return the main branch of an Xception block: three pairs of depthwise 3x3 and 1x1; the first has the stride."""
    return nn.Sequential(
        *depthwise(inp, 3, stride, affine),
        *pointwise(inp, mid, affine),
        *depthwise(mid, 3, 1, affine),
        *pointwise(mid, mid, affine),
        *depthwise(mid, 3, 1, affine),
        *pointwise(mid, out, affine),
    )


def projection(channels: int, kernel: int, stride: int, affine: bool) -> nn.Sequential:
    """Return the projection branch of a `ProjectionBlock`: depthwise, 1x1."""
    return nn.Sequential(*depthwise(channels, kernel, stride, affine), *pointwise(channels, channels, affine))
