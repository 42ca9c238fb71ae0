"""The search space of ProxylessNAS: in every block six inverted residual blocks or none.

"ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", Cai et al. 2019, arXiv 1812.00332.
"""

from __future__ import annotations

from automl_nas.errors import SpaceError
from automl_nas.space import SupernetSpace
from automl_nas_spaces.mobile.blocks import Norm
from automl_nas_spaces.mobile.candidates import Candidate, CandidateOutline, CandidateSpace
from automl_nas_spaces.mobile.outline import check_lengths
from automl_nas_spaces.mobile.rules import Multiplied


def proxylessnas(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    width_multiplier: float = 1.0,
    kernels: tuple[int, ...] = (3, 5, 7),
    expansions: tuple[int, ...] = (3, 6),
    widths: tuple[int, ...] = (24, 40, 80, 96, 192, 320),
    repeats: tuple[int, ...] = (4, 4, 4, 4, 4, 1),
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1),
    stem_channels: int = 32,
    stem_stride: int = 2,
    first_channels: int = 16,
    last_channels: int = 1280,
    dropout: float = 0.0,
) -> SupernetSpace:
    """Return the space. The defaults are the paper's for ImageNet: 6^6 * 7^15, about 2 * 10^17, networks.

    Decisions ``stage1.block1``, ... are choices of ``k3_e3``, ``k3_e6``, ``k5_e3``, ...: a kernel and an expansion; and
    of ``skip`` where a block keeps size and width. Every candidate has weights of its own, so that options can be
    weighted (`differentiable` strategies), and costs are sums over the blocks. `proxylessnas_elastic` is the space of
    once-for-all, in which kernels, expansions and depths share weights.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        width_multiplier: of all widths, which are rounded to multiples of 8; below 1 not of ``last_channels``.
        kernels: kernels of the candidates, odd.
        expansions: expansions of the candidates.
        widths: output channels of each stage.
        repeats: number of blocks of each stage.
        strides: of the first block of each stage, 1 or 2.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: of the stem, 1 or 2.
        first_channels: output channels of the first block, in which nothing is searched.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: probability of dropout before the classifier.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
    """
    check_lengths(widths=widths, repeats=repeats, strides=strides)
    scaled = Multiplied(width_multiplier)
    if not kernels or not expansions or min(expansions) < 1:
        raise SpaceError(f"kernels and expansions need numbers from 1 on, not {kernels} and {expansions}")
    if even := [kernel for kernel in kernels if kernel < 1 or kernel % 2 == 0]:
        raise SpaceError(f"a kernel must be odd, so that sizes are kept, not {even[0]}")

    outline = CandidateOutline(
        num_classes=num_classes,
        input_shape=input_shape,
        stem_channels=scaled(stem_channels),
        stem_stride=stem_stride,
        first_channels=scaled(first_channels),
        widths=tuple(scaled(width) for width in widths),
        repeats=repeats,
        strides=strides,
        last_channels=scaled.last(last_channels),
        candidates={
            f"k{kernel}_e{expansion}": Candidate(kernel, expansion, expand_at_one=False)
            for kernel in kernels
            for expansion in expansions
        },
        activation="relu6",
        norm=Norm(1e-3),
        dropout=dropout,
    )
    return CandidateSpace(outline)
