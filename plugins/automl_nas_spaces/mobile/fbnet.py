"""The search space of FBNet: 22 layers with nine candidates each.

"FBNet: Hardware-Aware Efficient ConvNet Design via Differentiable Neural Architecture Search", Wu et al. 2019, arXiv
1812.03443; tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping

from automl_nas.errors import SpaceError
from automl_nas.space import SupernetSpace
from automl_nas_spaces.mobile.blocks import Norm
from automl_nas_spaces.mobile.candidates import Candidate, CandidateOutline, CandidateSpace
from automl_nas_spaces.mobile.outline import check_lengths

FBNETS: Mapping[str, str] = {
    "fbnet_a": "skip | k3_e3 k3_e1 skip skip | k5_e6 k3_e3 k5_e1 k3_e3 | k5_e6 k5_e3 k5_e1_g2 k5_e6 | "
    "k3_e6 k5_e1_g2 k5_e3 k3_e1_g2 | k5_e6 k5_e6 k5_e3 k5_e6 | k5_e6",
    "fbnet_b": "k3_e1 | k3_e6 k5_e1 k3_e1 k3_e1 | k5_e6 k5_e3 k3_e6 k5_e6 | k5_e6 k5_e6 skip k5_e3 | "
    "k5_e6 k3_e1 k5_e1 k5_e3 | k5_e6 k5_e1 k5_e6 k5_e6 | k3_e6",
    "fbnet_c": "k3_e1 | k3_e6 skip k3_e1 k3_e1 | k5_e6 k5_e3 k5_e6 k3_e6 | k5_e6 k5_e3 k5_e6 k5_e6 | "
    "k5_e6 k5_e6 k5_e6 k5_e3 | k5_e6 k5_e6 k5_e6 k5_e6 | k3_e6",
}
"""The candidates of the published networks, stage after stage; FBNet-A has ``last_channels`` 1504."""


def fbnet(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    widths: tuple[int, ...] = (16, 24, 32, 64, 112, 184, 352),
    repeats: tuple[int, ...] = (1, 4, 4, 4, 4, 4, 1),
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1),
    stem_channels: int = 16,
    stem_stride: int = 2,
    last_channels: int = 1984,
    dropout: float = 0.0,
    expand_at_one: bool = True,
) -> SupernetSpace:
    """Return the space. The defaults are the paper's for ImageNet: 22 blocks, 8^6 * 9^16, about 5 * 10^20, networks.

    Decisions ``stage1.block1``, ... are choices of kernel 3 or 5 with expansion 1, 3 or 6 (``k3_e1``, ``k3_e3``, ...),
    of expansion 1 with two groups (``k3_e1_g2``, ``k5_e1_g2``: both 1x1 convolutions are grouped, channels are shuffled
    between them), and of ``skip`` where a block keeps size and width; the paper counts nine candidates in every block.
    Every candidate has weights of its own, so that options can be weighted (`differentiable` strategies), and costs are
    sums over the blocks. `from_names` of `automl_nas_spaces.mobile.candidates` makes architectures of `FBNETS`.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        widths: output channels of each stage, even.
        repeats: number of blocks of each stage.
        strides: of the first block of each stage, 1 or 2.
        stem_channels: output channels of the 3x3 convolution of the stem, even.
        stem_stride: of the stem, 1 or 2.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: probability of dropout before the classifier.
        expand_at_one: whether blocks of expansion 1 have their first 1x1 convolution, as in the published count of
            FBNet-A (249M multiply-adds); False: without, as in MobileNetV2, and without a shuffle.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
    """
    check_lengths(widths=widths, repeats=repeats, strides=strides)
    if odd := [width for width in (stem_channels, *widths) if width % 2]:
        raise SpaceError(f"channels are divided into two groups, so that their number must be even, not {odd[0]}")
    candidates: dict[str, Candidate] = {}
    for kernel in (3, 5):
        candidates[f"k{kernel}_e1"] = Candidate(kernel, 1, 1, expand_at_one)
        candidates[f"k{kernel}_e1_g2"] = Candidate(kernel, 1, 2, expand_at_one)
        candidates[f"k{kernel}_e3"] = Candidate(kernel, 3)
        candidates[f"k{kernel}_e6"] = Candidate(kernel, 6)
    outline = CandidateOutline(
        num_classes=num_classes,
        input_shape=input_shape,
        stem_channels=stem_channels,
        stem_stride=stem_stride,
        first_channels=0,
        widths=widths,
        repeats=repeats,
        strides=strides,
        last_channels=last_channels,
        candidates=candidates,
        activation="relu",
        norm=Norm(),
        dropout=dropout,
    )
    return CandidateSpace(outline)
