"""What all networks of the ShuffleNetV2 family have in common: `Outline`, and the candidates of a block."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas_spaces.blocks import (
    ProjectionBlock,
    ShuffleBlock,
    Width,
    pointwise,
    projection,
    shuffle_main,
    xception_main,
)
from automl_nas_spaces.layout import Place, place_blocks

CANDIDATES = ("shuffle3", "shuffle5", "shuffle7", "xception")
"""The candidates of every block, in the order of the paper's codes 0 to 3."""

_KERNELS = {"shuffle3": 3, "shuffle5": 5, "shuffle7": 7}


@final
@dataclass(frozen=True)
class Outline:
    """Everything about a network but its blocks; see `automl_nas_spaces.shufflenet_v2.shufflenet_v2` for the settings.

    Raises:
        SpaceError: a number out of range.
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
    affine: bool

    def __post_init__(self) -> None:
        for name, value in (
            ("num_classes", self.num_classes),
            ("input channels", self.input_shape[0]),
            ("stem_channels", self.stem_channels),
            ("last_channels", self.last_channels),
        ):
            if value < 1:
                raise SpaceError(f"{name} is at least 1, not {value}")
        if not 0 <= self.dropout < 1:
            raise SpaceError(f"dropout is a probability from 0 to below 1, not {self.dropout}")

    def places(self, channel_scales: Sequence[float] | None) -> tuple[Place, ...]:
        """Return where the blocks stand; see `place_blocks`."""
        _, height, width = self.input_shape
        return place_blocks(
            input_size=(height, width),
            stem_channels=self.stem_channels,
            stem_stride=self.stem_stride,
            widths=self.widths,
            repeats=self.repeats,
            strides=self.strides,
            channel_scales=channel_scales,
        )

    def network(self, places: Sequence[Place], block: Callable[[Place], nn.Module]) -> nn.Sequential:
        """Return the network with ``block(place)`` in each place, with fresh weights."""
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


def candidate(name: str, place: Place, affine: bool, mid: Width | None = None) -> nn.Module:
    """Return one of the `CANDIDATES` for a place.

    Args:
        name: of the candidate.
        place: where it stands.
        affine: whether batch normalisation has weights and biases.
        mid: the width inside its main branch; None: that of the place.
    """
    mid = place.mid if mid is None else mid
    # Either the whole input goes through the main branch, or the half of it that does not pass.
    inp = place.inp if place.projects else place.out // 2
    rest, kernel = place.out - inp, _KERNELS.get(name, 3)
    if name == "xception":
        main = xception_main(inp, mid, rest, place.stride, affine)
    else:
        main = shuffle_main(inp, mid, rest, kernel, place.stride, affine)
    if place.projects:
        return ProjectionBlock(projection(inp, kernel, place.stride, affine), main)
    return ShuffleBlock(main)
