"""The block search space of SPOS: ShuffleNetV2 with four candidates for each block.

"Single Path One-Shot Neural Architecture Search with Uniform Sampling", Guo et al., arXiv 1904.00420, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, OneOf, SearchSpace, SupernetSpace, decode, encode
from automl_nas_spaces.outline import CANDIDATES, Outline, Place, Variant


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
    variant: Variant = "search",
    channel_scales: tuple[float, ...] | None = None,
    shared: bool = False,
) -> SupernetSpace:
    """Return the space. The defaults are the paper's, for ImageNet: 20 blocks, 4^20 architectures.

    Decisions ``stage1.block1``, ``stage1.block2``, ... are choices of `CANDIDATES`; `from_codes` and `to_codes` convert
    from and to the lists of codes that the paper prints. A supernet has 8,388,176 parameters with the defaults.

    The first block of a stage has the stage's stride. A block that changes size or width sends its whole input through
    both of its branches. In the paper these are the blocks of stride 2; for small images also the first block of a
    stage with stride 1 if it changes the width. All other blocks split their channels by parity.

    Weights have torch's default initialisation. Every convolution is followed by batch normalisation, so the scale of
    the weights does not change the outputs of a fresh network.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: stride of the stem, 1 or 2.
        widths: output channels of each stage, multiples of 4; a stage must not be narrower than the previous one.
        repeats: number of blocks of each stage.
        strides: stride of the first block of each stage, 1 or 2.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: dropout probability before the linear layer.
        variant: ``search``: batch normalisation has no weights and biases, as in the paper's supernet; ``final``: it
            has, as in the network that is retrained. Architectures are the same in both.
        channel_scales: a fixed scale for each block: its main branch has ``int(width // 2 * scale)`` channels inside.
            None: 1 for all blocks, as in the block search; the paper's channel search uses 0.2, 0.4, ..., 1.6.
        shared: whether, in a supernet, the candidates ``shuffle3`` and ``shuffle5`` of a block use the weights of its
            ``shuffle7``, of kernels the centre. ``xception`` has another structure and weights of its own, and so has
            batch normalisation. Networks that are built alone are the same. The paper's candidates are separate, and
            what sharing does in this space has not been measured.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
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
        variant=variant,
        channel_scales=channel_scales,
    )
    return outline.module_space(partial(_choice, outline, shared))


def from_codes(space: SearchSpace, codes: Sequence[int]) -> Architecture:
    """Return the architecture for a list of the paper's codes.

    Args:
        space: a space that `shufflenet_v2` returned.
        codes: for each block 0 (shuffle 3x3), 1 (5x5), 2 (7x7) or 3 (Xception).

    Raises:
        SpaceError: the number of codes is wrong, or a code does not exist.
    """
    if invalid := [code for code in codes if code not in range(len(CANDIDATES))]:
        raise SpaceError(f"a code must be 0 to {len(CANDIDATES) - 1} ({', '.join(CANDIDATES)}), not {invalid[0]!r}")
    return decode(list(codes), space.decisions)


def to_codes(space: SearchSpace, architecture: Architecture) -> list[int]:
    """Return the list of the paper's codes of an architecture; the inverse of `from_codes`.

    Raises:
        SpaceError: the architecture does not belong to this space.
    """
    return list(encode(space.validate(architecture), space.decisions))


def _choice(outline: Outline, shared: bool, place: Place) -> nn.Module:
    return OneOf({name: outline.candidate(name, place) for name in CANDIDATES}, shared=shared)
