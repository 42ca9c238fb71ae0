"""The operations of the DARTS cell space (Liu et al. 2019, arXiv 1806.09055, section 3.1, and the authors' code)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The options of every edge, in the order of the authors' columns of alpha."""

FURTHER = ("sep_conv_7x7", "conv_7x1_1x7")
"""Operations of the published NASNet and AmoebaNet cells."""


def operation(name: str, channels: int, stride: int, *, affine: bool, pool_norm: bool) -> nn.Module:
    """Return an operation with as many output as input channels.

    Args:
        name: one of `OPERATIONS` or `FURTHER`.
        channels: of input and output.
        stride: 1 or 2.
        affine: whether batch normalisation has weights and biases.
        pool_norm: whether batch normalisation (without weights) follows a pooling, as it does in the search.

    Raises:
        SpaceError: the operation is unknown.
    """
    kind, _, size = name.rpartition("_")
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine=affine)
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        pool = nn.MaxPool2d(3, stride, 1) if kind == "max_pool" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False)) if pool_norm else pool
    if name not in (*OPERATIONS, *FURTHER):
        raise SpaceError(f"unknown operation '{name}'{did_you_mean(name, (*OPERATIONS, *FURTHER))}")
    if name == "conv_7x1_1x7":
        return nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, 7), (1, stride), (0, 3), bias=False),
            nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )
    kernel = int(size[0])
    if kind == "dil_conv":
        return nn.Sequential(*_separable(channels, kernel, stride, 2, affine))
    return nn.Sequential(*_separable(channels, kernel, stride, 1, affine), *_separable(channels, kernel, 1, 1, affine))


def _separable(channels: int, kernel: int, stride: int, dilation: int, affine: bool) -> tuple[nn.Module, ...]:
    """Return ReLU, depthwise and pointwise convolution, batch normalisation."""
    # The ReLU is not in place: its input is a state that other edges read as well.
    padding = dilation * (kernel // 2)
    return (
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


def relu_conv_bn(inp: int, out: int, *, affine: bool) -> nn.Sequential:
    """Return ReLU, 1x1 convolution without bias, batch normalisation."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inp, out, 1, bias=False), nn.BatchNorm2d(out, affine=affine))


@final
class Zero(nn.Module):
    """No connection: zeros in the shape of the output, through which no gradient flows.

    Args:
        stride: by which height and width are divided.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(x if self.stride == 1 else x[:, :, :: self.stride, :: self.stride])


@final
class FactorizedReduce(nn.Module):
    """Halves height and width: two 1x1 convolutions of stride 2, the second one shifted by a pixel, and one BN.

    Args:
        inp: input channels.
        out: output channels, an even number.
        affine: whether batch normalisation has weights and biases.
    """

    def __init__(self, inp: int, out: int, *, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv_1 = nn.Conv2d(inp, out // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inp, out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Return shape ``(batch, out, height / 2, width / 2)``; height and width must be even."""
        x = self.relu(x)
        result: Tensor = self.norm(torch.cat((self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])), dim=1))
        return result


@final
class PartialChannels(nn.Module):
    """Apply an operation to the first 1/k of the channels; the others bypass it (PC-DARTS, arXiv 1907.05737).

    The channels are then shuffled, so that later edges process others of them. With stride 2 the others are pooled.

    Args:
        operation: reads and writes 1/k of the channels.
        k: the divisor.
        stride: of the operation.
    """

    def __init__(self, operation: nn.Module, k: int, stride: int) -> None:
        super().__init__()
        self.operation, self.k = operation, k
        self.pool = nn.MaxPool2d(2, 2) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor with the channels of x."""
        active = x.shape[1] // self.k
        joined = torch.cat((self.operation(x[:, :active]), self.pool(x[:, active:])), dim=1)
        return shuffled(joined, self.k)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Return x with its channels shuffled: of 8 channels and 4 groups, in the order 0, 2, 4, 6, 1, 3, 5, 7."""
    batch, channels, *size = x.shape
    return x.reshape(batch, groups, channels // groups, *size).transpose(1, 2).reshape(x.shape)


@final
class DropPath(nn.Module):
    """In training, set the output of an operation to zero for some samples, and scale the others up.

    The probability grows linearly with the number of training batches (Zoph et al. 2018, arXiv 1707.07012). Their
    number is a buffer, so that a training can be resumed.

    Args:
        probability: the final one, at least 0 and below 1.
        iterations: training batches until the final probability.
    """

    seen: Tensor

    def __init__(self, probability: float, iterations: int) -> None:
        super().__init__()
        self.probability, self.iterations = probability, iterations
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x of shape ``(batch, ...)``; in training with some samples dropped."""
        if not self.training:
            return x
        keep = 1 - self.probability * (self.seen / self.iterations).clamp(max=1)
        self.seen += 1
        mask = (torch.rand(x.shape[0], device=x.device) < keep).to(x.dtype) / keep.to(x.dtype)
        return x * mask.view(-1, *(1,) * (x.dim() - 1))
