"""The blocks of ResNets (He et al. 2016, arXiv 1512.03385, figures 2 and 5) with searched widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from torch import Tensor, nn

from automl_nas.space import ElasticBatchNorm2d, ElasticConv2d, Scalar
from automl_nas_spaces.resnet.hidden import HiddenConv2d

BlockKind: TypeAlias = Literal["bottleneck", "basic"]
Downsample: TypeAlias = Literal["average", "strided"]


@final
@dataclass(frozen=True)
class Width:
    """A number of channels that a decision determines.

    Attributes:
        name: of the decision.
        channels: option, a multiplier -> channels, increasing.
    """

    name: str
    channels: Mapping[float, int]

    @property
    def largest(self) -> int:
        """The largest number of channels."""
        return max(self.channels.values())


@final
@dataclass(frozen=True)
class Place:
    """The position and widths of one block.

    Attributes:
        stage: the first part of the names of its decisions, ``layer1``.
        block: its number in the stage, counted from 0.
        inp: of the input.
        out: of the output.
        hidden: (multiplier of the output, ratio) -> channels inside.
        stride: of its 3x3 convolution that has one, 1 or 2.
        changes: whether the shortcut has a convolution.
    """

    stage: str
    block: int
    inp: Width
    out: Width
    hidden: Mapping[tuple[float, float], int]
    stride: int
    changes: bool


def convolution(inp: int, out: Width, kernel: int, stride: int = 1) -> nn.Module:
    """Return a convolution without bias to a searched width, which divides height and width by the stride."""
    options: dict[Scalar, int] = dict(zip(out.channels, out.channels.values(), strict=True))
    channels = out.largest if len(options) == 1 else options
    return ElasticConv2d(inp, channels, kernel, stride, kernel // 2, bias=False, name=out.name)


class Stem(nn.Module):
    """A 3x3 convolution around which the input passes: ``x + relu(norm(conv(x)))``, of the stem of once-for-all."""

    def __init__(self, width: Width) -> None:
        super().__init__()
        self.conv = convolution(width.largest, width, 3)
        self.bn = ElasticBatchNorm2d(width.largest)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        outputs: Tensor = x + self.relu(self.bn(self.conv(x)))
        return outputs


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first convolution has the stride."""

    def __init__(self, place: Place, downsample: Downsample) -> None:
        super().__init__()
        hidden = max(place.hidden.values())
        self.conv1 = _hidden(place, place.inp.largest, 3, place.stride)
        self.bn1 = ElasticBatchNorm2d(hidden)
        self.conv2 = convolution(hidden, place.out, 3)
        self.bn2 = ElasticBatchNorm2d(place.out.largest)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(place, downsample)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, which are not negative."""
        shortcut = x if self.downsample is None else self.downsample(x)
        outputs: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        outputs = self.relu(outputs + shortcut)
        return outputs


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut; the 3x3 convolution has the stride, as in torchvision."""

    def __init__(self, place: Place, downsample: Downsample) -> None:
        super().__init__()
        hidden = max(place.hidden.values())
        self.conv1 = _hidden(place, place.inp.largest, 1, 1)
        self.bn1 = ElasticBatchNorm2d(hidden)
        self.conv2 = _hidden(place, hidden, 3, place.stride)
        self.bn2 = ElasticBatchNorm2d(hidden)
        self.conv3 = convolution(hidden, place.out, 1)
        self.bn3 = ElasticBatchNorm2d(place.out.largest)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(place, downsample)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, which are not negative."""
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        outputs: Tensor = self.bn3(self.conv3(hidden))
        outputs = self.relu(outputs + shortcut)
        return outputs


def _hidden(place: Place, inputs: int, kernel: int, stride: int) -> HiddenConv2d:
    return HiddenConv2d(inputs, place.hidden, kernel, stride, place.stage, str(place.block))


def _shortcut(place: Place, kind: Downsample) -> nn.Sequential | None:
    """Return the convolution of the shortcut, after an average of the pixels or with the stride itself."""
    if not place.changes:
        return None
    layers: list[nn.Module] = []
    stride = place.stride
    if kind == "average" and stride > 1:
        layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True))
        stride = 1
    layers += [convolution(place.inp.largest, place.out, 1, stride), ElasticBatchNorm2d(place.out.largest)]
    return nn.Sequential(*layers)
