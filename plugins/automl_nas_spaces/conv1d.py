"""The search space `conv1d`: residual convolutional networks for signals that share one set of weights."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import final

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticBatchNorm1d, ElasticConv1d, ElasticLinear, ModuleSpace, Repeat, Scalar
from automl_nas_spaces.settings import check_options, check_positive, check_probability, one_or_all, one_or_each


def conv1d(
    *,
    num_classes: int = 1,
    input_shape: tuple[int, int] = (1, 128),
    widths: tuple[int, ...] = (32, 64),
    multipliers: tuple[float, ...] = (0.5, 0.75, 1.0),
    min_depths: tuple[int, ...] = (1, 1),
    max_depths: tuple[int, ...] = (3, 3),
    strides: tuple[int, ...] = (2, 2),
    kernels: tuple[int, ...] = (3, 7, 15),
    dilations: tuple[int, ...] = (1, 2, 4),
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space of networks for signals: samples of several channels at equal intervals.

    Decisions for each stage: ``stage1.width``, a multiplier of its channels, and ``stage1.depth``, its number of
    blocks; for each block ``stage1.block1.kernel`` and ``stage1.block1.dilation`` of its depthwise convolution. All
    networks share the weights of the largest one: a narrower layer uses the first channels, a shorter kernel the
    centre, a shallower stage the first blocks (once-for-all, Cai et al. 2020, arXiv 1908.09791). Dilations reach far
    with few weights, as in temporal convolutional networks (Bai et al. 2018, arXiv 1803.01271); here the convolutions
    see both sides.

    `automl_nas_spaces.sequences.signal_cnn` has weights for each option instead, so that options can be weighted.

    Args:
        num_classes: number of outputs.
        input_shape: channels and length of a signal.
        widths: channels of each stage.
        multipliers: options of the width of each stage, relative to ``widths``.
        min_depths: the smallest number of blocks of each stage.
        max_depths: the largest number of blocks of each stage.
        strides: by which the first convolution of each stage shortens the signal.
        kernels: options of the kernel of each block, odd numbers.
        dilations: options of the dilation of each block.
        dropout: probability of dropout before the last layer.

    Raises:
        SpaceError: a setting is out of its range, nothing is left to search, or signals are too short for the strides.
    """
    if len(input_shape) != 2 or min(input_shape) < 1:
        raise SpaceError(f"signals need the shape (channels, length), not {tuple(input_shape)}")
    plan = _Plan(
        num_classes=num_classes,
        input_shape=input_shape,
        widths=widths,
        multipliers=multipliers,
        min_depths=min_depths,
        max_depths=max_depths,
        strides=strides,
        kernels=kernels,
        dilations=dilations,
        dropout=dropout,
    )
    return ModuleSpace(plan.network, input_shape=tuple(input_shape))


class SignalBlock(nn.Module):
    """``relu(x + norm(pointwise(relu(norm(depthwise(x))))))``: a separable convolution with a shortcut.

    Args:
        depthwise: along the signal, each channel alone.
        pointwise: of all channels, to the same width.
        width: the largest number of channels.
    """

    def __init__(self, depthwise: nn.Module, pointwise: nn.Module, width: int) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.norm1 = ElasticBatchNorm1d(width)
        self.pointwise = pointwise
        self.norm2 = ElasticBatchNorm1d(width)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape ``(batch, width, length)``, which are not negative."""
        hidden = self.relu(self.norm1(self.depthwise(x)))
        outputs: Tensor = self.relu(x + self.norm2(self.pointwise(hidden)))
        return outputs


@final
@dataclass(frozen=True)
class _Plan:
    """The settings, checked, and the network with its choices."""

    num_classes: int
    input_shape: tuple[int, int]
    widths: tuple[int, ...]
    multipliers: tuple[float, ...]
    min_depths: tuple[int, ...]
    max_depths: tuple[int, ...]
    strides: tuple[int, ...]
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    dropout: float

    def __post_init__(self) -> None:
        stages = len(self.widths)
        if not stages or {len(self.min_depths), len(self.max_depths), len(self.strides)} != {stages}:
            raise SpaceError("widths, min_depths, max_depths and strides must contain one number for each stage")
        check_positive(
            num_classes=self.num_classes,
            widths=min(self.widths),
            min_depths=min(self.min_depths),
            strides=min(self.strides),
        )
        check_options(multipliers=self.multipliers, kernels=self.kernels, dilations=self.dilations)
        check_probability(dropout=self.dropout)
        for stage, (low, high) in enumerate(zip(self.min_depths, self.max_depths, strict=True), start=1):
            if low > high:
                raise SpaceError(f"stage {stage}: min_depths has {low} blocks, more than the {high} of max_depths")
            if len(set(self._channels(stage - 1).values())) < len(self.multipliers):
                raise SpaceError(
                    f"stage {stage}: two multipliers of {list(self.multipliers)} give the same number of "
                    f"{self.widths[stage - 1]} channels, or one gives none"
                )
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise SpaceError(f"a kernel must be odd, so that it has a centre, not {even[0]}")
        options = (self.multipliers, self.kernels, self.dilations)
        if all(len(each) == 1 for each in options) and self.min_depths == self.max_depths:
            raise SpaceError(
                "there is nothing to search with one multiplier, one kernel, one dilation and one depth of each stage; "
                "add an option to one of them"
            )
        length, whole = self.input_shape[1], math.prod(self.strides)
        if whole > length:
            raise SpaceError(
                f"signals of length {length} are too short to be shortened {whole} times; set some strides to 1"
            )

    def _channels(self, stage: int) -> dict[Scalar, int]:
        """Return multiplier -> channels of a stage, without those of 0 channels."""
        channels: Mapping[Scalar, int] = {each: int(self.widths[stage] * each) for each in self.multipliers}
        return {each: number for each, number in channels.items() if number >= 1}

    def network(self) -> nn.Module:
        """Return the network with its choices, with fresh weights."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        inputs = self.input_shape[0]
        for stage, (stride, low, high) in enumerate(zip(self.strides, self.min_depths, self.max_depths, strict=True)):
            name, channels = f"stage{stage + 1}", self._channels(stage)
            most = max(channels.values())
            shorten = ElasticConv1d(
                inputs, one_or_each(channels), 2 * stride + 1, stride, bias=False, name=f"{name}.width"
            )
            blocks = Repeat(partial(self._block, stage), low, high, name=f"{name}.depth")
            layers = {"shorten": shorten, "norm": ElasticBatchNorm1d(most), "relu": nn.ReLU(), "blocks": blocks}
            parts[name] = nn.Sequential(OrderedDict(layers))
            inputs = most
        parts["pool"] = nn.AdaptiveAvgPool1d(1)
        parts["flatten"] = nn.Flatten()
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = ElasticLinear(inputs, self.num_classes)
        return nn.Sequential(parts)

    def _block(self, stage: int, position: int) -> nn.Module:
        name, channels = f"stage{stage + 1}", self._channels(stage)
        most = max(channels.values())
        depthwise = ElasticConv1d(
            most,
            most,
            one_or_all(self.kernels),
            dilation=one_or_all(self.dilations),
            groups=most,
            bias=False,
            name=f"{name}.block{position + 1}",
        )
        pointwise = ElasticConv1d(most, one_or_each(channels), 1, bias=False, name=f"{name}.width")
        return SignalBlock(depthwise, pointwise, most)
