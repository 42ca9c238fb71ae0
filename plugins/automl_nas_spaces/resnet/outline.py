"""The networks of the space `resnet`: settings and their checks, widths, and the network with its choices."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, TypeAlias, final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticBatchNorm2d, ElasticLinear, Repeat
from automl_nas_spaces.resnet.blocks import (
    BasicBlock,
    BlockKind,
    Bottleneck,
    Downsample,
    Place,
    Stem,
    Width,
    convolution,
)
from automl_nas_spaces.settings import check_options, check_positive, check_probability

StemKind: TypeAlias = Literal["deep", "7x7", "3x3"]

_BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


@final
@dataclass(frozen=True)
class Outline:
    """The settings of `automl_nas_spaces.resnet.space.resnet`, checked, and the network with its choices.

    Raises:
        SpaceError: a setting is outside its range, settings contradict each other, or images are too small for the
            strides.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    block: BlockKind
    multipliers: tuple[float, ...]
    ratios: tuple[float, ...]
    widths: tuple[int, ...]
    min_depths: tuple[int, ...]
    max_depths: tuple[int, ...]
    strides: tuple[int, ...]
    stem: StemKind
    stem_width: int
    stem_stride: int
    stem_pool: bool
    downsample: Downsample
    divisor: int
    dropout: float

    def __post_init__(self) -> None:
        lengths = {len(each) for each in (self.widths, self.min_depths, self.max_depths, self.strides)}
        if lengths != {len(self.widths)} or not self.widths:
            raise SpaceError("widths, min_depths, max_depths and strides must contain one number for each stage")
        check_positive(
            num_classes=self.num_classes,
            input_shape=min(self.input_shape),
            widths=min(self.widths),
            min_depths=min(self.min_depths),
            stem_width=self.stem_width,
            divisor=self.divisor,
        )
        check_options(multipliers=self.multipliers, ratios=self.ratios)
        check_probability(dropout=self.dropout)
        for stage, (low, high) in enumerate(zip(self.min_depths, self.max_depths, strict=True), start=1):
            if low > high:
                raise SpaceError(f"stage {stage}: min_depths has {low} blocks, more than the {high} of max_depths")
        self._check_strides()
        is_one = len(self.multipliers) == len(self.ratios) == 1 and self.min_depths == self.max_depths
        if is_one and self.stem != "deep":
            raise SpaceError(
                "there is nothing to search with one multiplier, one ratio and one depth of each stage; add an option "
                "to multipliers or ratios, or larger max_depths"
            )

    def _check_strides(self) -> None:
        strides = (self.stem_stride, 2 if self.stem_pool else 1, *self.strides)
        if invalid := [stride for stride in strides if stride not in (1, 2)]:
            raise SpaceError(f"a stride must be 1 or 2, not {invalid[0]}")
        _, height, width = self.input_shape
        if min(height, width) < 2 ** (strides.count(2) - 1) + 1 and strides.count(2):
            raise SpaceError(
                f"images of {height}x{width} are too small to be halved {strides.count(2)} times; set stem_stride or "
                "some strides to 1, or stem_pool to false"
            )

    def divisible(self, channels: float) -> int:
        """Return the nearest multiple of the divisor that is not below 90 % of a number, as once-for-all rounds."""
        rounded = max(self.divisor, int(channels + self.divisor / 2) // self.divisor * self.divisor)
        return rounded + self.divisor if rounded < 0.9 * channels else rounded

    @cached_property
    def stem_out(self) -> Width:
        """The width of the stem's output; that of the first stage, if its shortcut adds both."""
        name = "stem.width" if self.changes(0) else self.stage_widths[0].name
        return self._width(name, {each: self.divisible(self.stem_width * each) for each in self.multipliers})

    @cached_property
    def stem_hidden(self) -> Width:
        """The width of the first two convolutions of a deep stem: half of the stem's."""
        whole = {each: self.divisible(self.stem_width * each) for each in self.multipliers}
        return self._width("stem.hidden", {each: self.divisible(whole[each] // 2) for each in self.multipliers})

    @cached_property
    def stage_widths(self) -> tuple[Width, ...]:
        """The width of each stage."""
        return tuple(
            self._width(f"layer{stage}.width", {each: self.divisible(width * each) for each in self.multipliers})
            for stage, width in enumerate(self.widths, start=1)
        )

    def changes(self, stage: int) -> bool:
        """Return whether the first block of a stage has a convolution in its shortcut.

        All have but that of a first stage which keeps height, width and channels, as in torchvision's ResNet-18.
        """
        return stage > 0 or self.strides[0] != 1 or self.stem_width != self.widths[0]

    def place(self, stage: int, block: int) -> Place:
        """Return the place of a block."""
        out = self.stage_widths[stage]
        before = self.stem_out if stage == 0 else self.stage_widths[stage - 1]
        hidden = {
            (multiplier, ratio): self.divisible(round(channels * ratio))
            for multiplier, channels in out.channels.items()
            for ratio in self.ratios
        }
        first = block == 0
        return Place(
            stage=f"layer{stage + 1}",
            block=block,
            inp=before if first else out,
            out=out,
            hidden=hidden,
            stride=self.strides[stage] if first else 1,
            changes=first and self.changes(stage),
        )

    def network(self) -> nn.Sequential:
        """Return the network with its choices, with fresh weights. Names are those of torchvision where it has them."""
        parts: OrderedDict[str, nn.Module] = OrderedDict(self._stem())
        for stage, (low, high) in enumerate(zip(self.min_depths, self.max_depths, strict=True)):
            make = partial(self._block, stage)
            parts[f"layer{stage + 1}"] = Repeat(make, low, high, name=f"layer{stage + 1}.depth")
        parts["avgpool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        if self.dropout:
            parts["dropout"] = nn.Dropout(self.dropout)
        parts["fc"] = ElasticLinear(self.stage_widths[-1].largest, self.num_classes)
        return nn.Sequential(parts)

    def _block(self, stage: int, block: int) -> nn.Module:
        return _BLOCKS[self.block](self.place(stage, block), self.downsample)

    def _stem(self) -> dict[str, nn.Module]:
        channels, out = self.input_shape[0], self.stem_out
        parts: dict[str, nn.Module] = {}
        if self.stem == "deep":
            hidden = self.stem_hidden
            first = convolution(channels, hidden, 3, self.stem_stride)
            norm, relu = ElasticBatchNorm2d(hidden.largest), nn.ReLU(inplace=True)
            parts["stem"] = nn.Sequential(first, norm, relu)
            parts["stem_block"] = Repeat(lambda _: Stem(hidden), 0, 1, name="stem.depth")
            parts["conv1"] = convolution(hidden.largest, out, 3)
        else:
            parts["conv1"] = convolution(channels, out, 7 if self.stem == "7x7" else 3, self.stem_stride)
        parts["bn1"], parts["relu"] = ElasticBatchNorm2d(out.largest), nn.ReLU(inplace=True)
        if self.stem_pool:
            parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
        return parts

    def _width(self, name: str, channels: Mapping[float, int]) -> Width:
        """Return a width without multipliers that round to the same number of channels as a smaller one."""
        distinct: dict[float, int] = {}
        for multiplier, number in channels.items():
            if number not in distinct.values():
                distinct[multiplier] = number
        return Width(name, distinct)
