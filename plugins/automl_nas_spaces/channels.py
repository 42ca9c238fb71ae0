"""Blocks and channels of SPOS searched together: every block has a candidate and a width inside.

"Single Path One-Shot Neural Architecture Search with Uniform Sampling", Guo et al., arXiv 1904.00420, sections 3.4
and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Literal, final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, ModuleSpace, OneOf, Ordinal, Supernet, SupernetSpace
from automl_nas_spaces.blocks import Searched
from automl_nas_spaces.layout import Place
from automl_nas_spaces.network import CANDIDATES, Outline, candidate

SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
"""The widths of the paper's channel search, relative to half of a block's output."""


@final
class ShuffleNetV2Channels(SupernetSpace):
    """The block search of `automl_nas_spaces.shufflenet_v2.shufflenet_v2` with a width for every block.

    Decisions ``stage1.block1`` (one of the candidates) and ``stage1.block1.scale`` (one of ``scales``) for each block:
    its main branch has ``int(width // 2 * scale)`` channels inside. In the supernet each candidate holds weights for
    the largest width, of which the first rows and columns are used, as in the paper; the candidates of a block share
    the decision and not the weights.

    Args:
        num_classes: outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        scales: the options of every width, increasing.
        stem_channels: output channels of the 3x3 convolution at the beginning.
        stem_stride: its stride, 1 or 2.
        widths: output channels of each stage, multiples of 4; no stage narrower than the one before.
        repeats: blocks of each stage.
        strides: stride of each stage, 1 or 2.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: its probability before the linear layer.
        variant: ``search``: no batch normalisation has weights and biases of its own, as in the paper's supernet;
            ``final``: all have, as in the network that is retrained. Architectures are the same in both.

    Raises:
        SpaceError: settings that contradict each other, a scale that leaves no channel, or images that are too small
            for the strides.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        input_shape: tuple[int, int, int] = (3, 224, 224),
        scales: tuple[float, ...] = SCALES,
        stem_channels: int = 16,
        stem_stride: int = 2,
        widths: tuple[int, ...] = (64, 160, 320, 640),
        repeats: tuple[int, ...] = (4, 4, 8, 4),
        strides: tuple[int, ...] = (2, 2, 2, 2),
        last_channels: int = 1024,
        dropout: float = 0.1,
        variant: Literal["search", "final"] = "search",
    ) -> None:
        self._outline = Outline(
            num_classes=num_classes,
            input_shape=input_shape,
            stem_channels=stem_channels,
            stem_stride=stem_stride,
            widths=widths,
            repeats=repeats,
            strides=strides,
            last_channels=last_channels,
            dropout=dropout,
            affine=variant == "final",
        )
        if not scales or min(scales) <= 0:
            raise SpaceError(f"scales are one or more numbers above 0, not {scales}")
        self._scales = scales
        # Checked at the smallest scale, where a block may be left without channels.
        self._places = self._outline.places((min(scales),) * sum(repeats))
        self._decisions: dict[str, Decision] = {}
        for place in self._places:
            self._decisions[_name(place)] = Choice(CANDIDATES)
            self._decisions[f"{_name(place)}.scale"] = Ordinal(scales)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, block after block."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._outline.input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`.

        It is made directly: out of a supernet it would take ten times as long.
        """
        checked = self.validate(architecture)

        def block(place: Place) -> nn.Module:
            scale = checked[f"{_name(place)}.scale"]
            assert isinstance(scale, int | float)
            return candidate(str(checked[_name(place)]), place, self._outline.affine, _inside(place, scale))

        return self._outline.network(self._places, block)

    def build_supernet(self) -> Supernet:
        """Return the supernet, with fresh weights."""
        return self._whole.build_supernet()

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the two decisions of each block."""
        return tuple((_name(place), f"{_name(place)}.scale") for place in self._places)

    @cached_property
    def _whole(self) -> ModuleSpace:
        block = partial(_choice, scales=self._scales, affine=self._outline.affine)
        return ModuleSpace(partial(self._outline.network, self._places, block), input_shape=self._outline.input_shape)


def _name(place: Place) -> str:
    return f"stage{place.stage}.block{place.block}"


def _inside(place: Place, scale: float) -> int:
    # The paper's code truncates in exactly this order.
    return int(place.out // 2 * scale)


def _choice(place: Place, scales: tuple[float, ...], affine: bool) -> nn.Module:
    width = Searched(f"{_name(place)}.scale", {scale: _inside(place, scale) for scale in scales})
    return OneOf({name: candidate(name, place, affine, width) for name in CANDIDATES})
