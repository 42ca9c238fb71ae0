"""The block-search space of SPOS: ShuffleNetV2 with four candidates for each block.

"Single Path One-Shot Neural Architecture Search with Uniform Sampling", Guo et al., arXiv 1904.00420, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ModuleSpace, OneOf, SearchSpace, SupernetSpace, decode, encode
from automl_nas_spaces.layout import Place
from automl_nas_spaces.network import CANDIDATES, Outline, candidate


def shufflenet_v2(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    stem_channels: int = 16,
    stem_stride: int = 2,
    widths: tuple[int, ...] = (64, 160, 320, 640),
    repeats: tuple[int, ...] = (4, 4, 8, 4),
    strides: tuple[int, ...] = (2, 2, 2, 2),
    last_channels: int = 1024,
    dropout: float = 0.1,
    variant: Literal["search", "final"] = "search",
    channel_scales: tuple[float, ...] | None = None,
) -> SupernetSpace:
    """Return the space. The defaults are the paper's, for ImageNet: 20 blocks, 4^20 architectures.

    Decisions ``stage1.block1``, ``stage1.block2``, ... are choices of `CANDIDATES`; `from_codes` and `to_codes` convert
    the lists of numbers that the paper prints. A supernet has 8,388,176 parameters with the defaults.

    The first block of a stage has the stage's stride. A block that changes size or width sends its whole input through
    both of its branches: so the paper's blocks of stride 2 do, and so does here, for small images, a block of stride 1
    at the beginning of a stage that is wider than what comes in. All other blocks split their channels by parity.

    Weights are drawn as torch does by default: every convolution is followed by batch normalisation, so their scale
    does not change what a fresh network computes.

    Args:
        num_classes: outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        stem_channels: output channels of the 3x3 convolution at the beginning.
        stem_stride: its stride, 1 or 2.
        widths: output channels of each stage, multiples of 4; no stage narrower than the one before.
        repeats: blocks of each stage.
        strides: stride of each stage, 1 or 2.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: its probability before the linear layer.
        variant: ``search``: no batch normalisation has weights and biases of its own, as in the paper's supernet;
            ``final``: all have, as in the network that is retrained. Architectures are the same in both.
        channel_scales: of each block, fixed: the main branch is ``int(width // 2 * scale)`` channels wide inside.
            None: 1 everywhere, as in the block search; the paper's channel search takes 0.2, 0.4, ..., 1.6.

    Raises:
        SpaceError: settings that contradict each other, or images that are too small for the strides.
    """
    outline = Outline(
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
    places = outline.places(channel_scales)
    factory = partial(outline.network, places, partial(_choice, affine=outline.affine))
    return ModuleSpace(factory, input_shape=input_shape)


def from_codes(space: SearchSpace, codes: Sequence[int]) -> Architecture:
    """Return the architecture for a list of the paper's codes.

    Args:
        space: from `shufflenet_v2`.
        codes: for each block 0 (shuffle 3x3), 1 (5x5), 2 (7x7) or 3 (Xception).

    Raises:
        SpaceError: the wrong number of codes, or one that does not exist.
    """
    if wrong := [code for code in codes if code not in range(len(CANDIDATES))]:
        raise SpaceError(f"a code is 0 to {len(CANDIDATES) - 1} ({', '.join(CANDIDATES)}), not {wrong[0]!r}")
    return decode(list(codes), space.decisions)


def to_codes(space: SearchSpace, architecture: Architecture) -> list[int]:
    """Invert `from_codes`.

    Raises:
        SpaceError: the architecture is not of this space.
    """
    return list(encode(space.validate(architecture), space.decisions))


def _choice(place: Place, affine: bool) -> nn.Module:
    return OneOf({name: candidate(name, place, affine) for name in CANDIDATES})
