"""What the networks of both ShuffleNetV2 spaces have in common: settings and their checks, blocks, and candidates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, TypeAlias, final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import ModuleSpace
from automl_nas_spaces.blocks import (
    ProjectionBlock,
    ShuffleBlock,
    Width,
    pointwise,
    projection,
    shuffle_main,
    xception_main,
)

CANDIDATES = ("shuffle3", "shuffle5", "shuffle7", "xception")
"""The candidates of every block, in the order of the paper's codes 0 to 3."""

Variant: TypeAlias = Literal["search", "final"]

_KERNELS = {"shuffle3": 3, "shuffle5": 5, "shuffle7": 7}


@final
@dataclass(frozen=True)
class Place:
    """The position and widths of one block.

    Attributes:
        stage: number of its stage, counted from 1.
        block: its number in the stage, counted from 1.
        inp: input channels.
        mid: channels inside the main branch.
        out: output channels.
        stride: 1 or 2.
    """

    stage: int
    block: int
    inp: int
    mid: int
    out: int
    stride: int

    @property
    def name(self) -> str:
        """The name of the block's decision and module, e.g. ``stage1.block2``."""
        return f"stage{self.stage}.block{self.block}"

    @property
    def projects(self) -> bool:
        """Whether size or width change, so that no channel can pass through unchanged."""
        return self.stride != 1 or self.inp != self.out


@final
@dataclass(frozen=True)
class Outline:
    """A network without its blocks: the settings of `automl_nas_spaces.shufflenet_v2.shufflenet_v2`, checked.

    Raises:
        SpaceError: a setting is outside its range, settings contradict each other, or images are too small for the
            strides.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    stem_channels: int
    stem_stride: int
    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    strides: tuple[int, ...]
    last_channels: int
    dropout: float
    variant: Variant
    channel_scales: tuple[float, ...] | None

    def __post_init__(self) -> None:
        for name, value in (
            ("num_classes", self.num_classes),
            ("input channels", self.input_shape[0]),
            ("stem_channels", self.stem_channels),
            ("last_channels", self.last_channels),
        ):
            if value < 1:
                raise SpaceError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.dropout < 1:
            raise SpaceError(f"dropout must be a probability, at least 0 and below 1, not {self.dropout}")
        if not len(self.widths) == len(self.repeats) == len(self.strides) or not self.widths:
            raise SpaceError(
                "widths, repeats and strides must contain one number for each stage, "
                f"not {len(self.widths)}, {len(self.repeats)} and {len(self.strides)}"
            )
        if invalid := [count for count in self.repeats if count < 1]:
            raise SpaceError(f"a stage must have at least one block, not {invalid[0]} (repeats {tuple(self.repeats)})")
        self._check_strides()
        if self.channel_scales is not None and len(self.channel_scales) != sum(self.repeats):
            raise SpaceError(
                f"channel_scales must contain one number for each of the {sum(self.repeats)} blocks, "
                f"not {len(self.channel_scales)}"
            )
        _ = self.places  # raises an error if the widths do not fit

    def _check_strides(self) -> None:
        strides = (self.stem_stride, *self.strides)
        description = f"stem_stride {self.stem_stride}, strides {tuple(self.strides)}"
        if invalid := [stride for stride in strides if stride not in (1, 2)]:
            raise SpaceError(f"a stride must be 1 or 2, not {invalid[0]} ({description})")
        _, height, width = self.input_shape
        smallest = size = min(height, width)
        if smallest < 1:
            raise SpaceError(f"images must have at least one pixel, not {height}x{width}")
        for stride in strides:
            if stride == 2 and size == 1:
                raise SpaceError(
                    f"images of {height}x{width} are too small for {strides.count(2)} strides of 2 ({description}): "
                    f"they can be halved {(smallest - 1).bit_length()} times; set some strides to 1"
                )
            # A convolution with padding kernel // 2 and stride 2 gives half of the pixels, rounded up.
            size = -(-size // stride)

    @property
    def affine(self) -> bool:
        """Whether batch normalisation has weights and biases."""
        return self.variant == "final"

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The blocks of all stages, in the order of the network."""
        scales = self.channel_scales or (1.0,) * sum(self.repeats)
        places: list[Place] = []
        inp = self.stem_channels
        for stage, (width, count, stride) in enumerate(
            zip(self.widths, self.repeats, self.strides, strict=True), start=1
        ):
            if width < 4 or width % 4:
                raise SpaceError(
                    f"stage {stage}: a width must be a multiple of 4, since channels are halved, not {width}"
                )
            if width < inp or (width == inp and stride != 1):
                raise SpaceError(
                    f"stage {stage}: the output of its first block consists of the {inp} input channels, after the "
                    f"projection, and those of the main branch, so its width must be greater than {inp}, not {width}"
                )
            for block in range(1, count + 1):
                scale = scales[len(places)]
                mid = scaled_width(width, scale)
                if mid < 1:
                    raise SpaceError(f"block {block} of stage {stage}: the channel scale {scale} gives 0 channels")
                places.append(Place(stage, block, inp, mid, width, stride if block == 1 else 1))
                inp = width
        return tuple(places)

    def network(self, block: Callable[[Place], nn.Module]) -> nn.Sequential:
        """Return the network with the module ``block(place)`` at each place, with fresh weights."""
        places = self.places
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = nn.Sequential(
            nn.Conv2d(self.input_shape[0], self.stem_channels, 3, self.stem_stride, 1, bias=False),
            nn.BatchNorm2d(self.stem_channels, affine=self.affine),
            nn.ReLU(inplace=True),
        )
        for stage in range(1, places[-1].stage + 1):
            blocks = {f"block{place.block}": block(place) for place in places if place.stage == stage}
            parts[f"stage{stage}"] = nn.Sequential(OrderedDict(blocks))
        parts["last"] = nn.Sequential(*pointwise(places[-1].out, self.last_channels, self.affine))
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = nn.Linear(self.last_channels, self.num_classes, bias=False)
        return nn.Sequential(parts)

    def module_space(self, choice: Callable[[Place], nn.Module]) -> ModuleSpace:
        """Return the space of networks in which ``choice(place)`` is a choice module."""
        return ModuleSpace(partial(self.network, choice), input_shape=self.input_shape)

    def candidate(self, name: str, place: Place, mid: Width | None = None) -> nn.Module:
        """Return one of the `CANDIDATES` for a place.

        Args:
            name: name of the candidate.
            place: the place of the block.
            mid: channels inside its main branch; None: those of the place.
        """
        mid = place.mid if mid is None else mid
        # A block that projects sends its whole input through the main branch, other blocks one half of it.
        inp = place.inp if place.projects else place.out // 2
        rest, kernel = place.out - inp, _KERNELS.get(name, 3)
        if name == "xception":
            main = xception_main(inp, mid, rest, place.stride, self.affine)
        else:
            main = shuffle_main(inp, mid, rest, kernel, place.stride, self.affine)
        if place.projects:
            return ProjectionBlock(projection(inp, kernel, place.stride, self.affine), main)
        return ShuffleBlock(main)


def scaled_width(out: int, scale: float) -> int:
    """Return the channels inside the main branch of a block with ``out`` output channels.

    The paper's code truncates in exactly this order; another order gives other numbers for some scales.
    """
    return int(out // 2 * scale)
