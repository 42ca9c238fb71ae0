"""The joint search of blocks and channels of SPOS: each block has a candidate and a width.

"Single Path One-Shot Neural Architecture Search with Uniform Sampling", Guo et al., arXiv 1904.00420, sections 3.4
and 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, ModuleSpace, OneOf, Ordinal, Supernet, SupernetSpace
from automl_nas_spaces.blocks import Searched
from automl_nas_spaces.outline import CANDIDATES, Outline, Place, Variant, scaled_width

SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
"""The scales of the paper's channel search, relative to half of a block's output channels."""


@final
class ShuffleNetV2Channels(SupernetSpace):
    """The block search of `automl_nas_spaces.shufflenet_v2.shufflenet_v2` with a width for every block.

    Decisions ``stage1.block1`` (one of the candidates) and ``stage1.block1.scale`` (one of ``scales``) for each block:
    its main branch has ``int(width // 2 * scale)`` channels inside. In the supernet each candidate has weights for the
    largest width; a smaller width uses the first rows and columns, as in the paper. The candidates of a block share
    the decision, not the weights.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        scales: the options of every ``scale`` decision, increasing.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: stride of the stem, 1 or 2.
        widths: output channels of each stage, multiples of 4; a stage must not be narrower than the previous one.
        repeats: number of blocks of each stage.
        strides: stride of the first block of each stage, 1 or 2.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: dropout probability before the linear layer.
        variant: ``search``: batch normalisation has no weights and biases, as in the paper's supernet; ``final``: it
            has, as in the network that is retrained. Architectures are the same in both.

    Raises:
        SpaceError: settings contradict each other, a scale gives 0 channels, or images are too small for the strides.
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
        variant: Variant = "search",
    ) -> None:
        if not scales or min(scales) <= 0:
            raise SpaceError(f"scales must be one or more numbers above 0, not {scales}")
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
            variant=variant,
            # The smallest scale, so that the check covers blocks with 0 channels.
            channel_scales=(min(scales),) * sum(repeats),
        )
        self._scales = scales
        self._decisions: dict[str, Decision] = {}
        for place in self._outline.places:
            self._decisions[place.name] = Choice(CANDIDATES)
            self._decisions[f"{place.name}.scale"] = Ordinal(scales)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the blocks."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._outline.input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`.

        It is built directly, since extracting it from a supernet takes ten times as long.
        """
        checked = self.validate(architecture)

        def block(place: Place) -> nn.Module:
            scale = checked[f"{place.name}.scale"]
            assert isinstance(scale, int | float)
            return self._outline.candidate(str(checked[place.name]), place, scaled_width(place.out, scale))

        return self._outline.network(block)

    def build_supernet(self) -> Supernet:
        """Return the supernet, with fresh weights."""
        return self._whole.build_supernet()

    @property
    def weighable(self) -> frozenset[str]:
        """The candidates of the blocks; widths take values only."""
        return frozenset(place.name for place in self._outline.places)

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the two decisions of each block."""
        return tuple((place.name, f"{place.name}.scale") for place in self._outline.places)

    @cached_property
    def _whole(self) -> ModuleSpace:
        return self._outline.module_space(self._choice)

    def _choice(self, place: Place) -> nn.Module:
        width = Searched(f"{place.name}.scale", {scale: scaled_width(place.out, scale) for scale in self._scales})
        return OneOf({name: self._outline.candidate(name, place, width) for name in CANDIDATES})
