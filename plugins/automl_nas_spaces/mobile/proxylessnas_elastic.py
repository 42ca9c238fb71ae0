"""ProxylessNAS's networks as a space of once-for-all: kernels, expansions and depths that share weights.

The second space in the code of "Once-for-All", Cai et al. 2020, arXiv 1908.09791.
"""

from __future__ import annotations

from automl_nas.space import SupernetSpace
from automl_nas_spaces.mobile.blocks import Norm
from automl_nas_spaces.mobile.outline import FirstBlock, Outline, Stage, StagedSpace, check_lengths
from automl_nas_spaces.mobile.rules import Multiplied


def proxylessnas_elastic(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    width_multiplier: float = 1.3,
    kernels: tuple[int, ...] = (3, 5, 7),
    expansions: tuple[float, ...] = (3, 4, 6),
    depths: tuple[int, ...] = (4, 4, 4, 4, 4, 1),
    min_depth: int = 2,
    widths: tuple[int, ...] = (24, 40, 80, 96, 192, 320),
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1),
    stem_channels: int = 32,
    stem_stride: int = 2,
    first_channels: int = 16,
    last_channels: int = 1280,
    dropout: float = 0.1,
    kernel_transformation: bool = True,
) -> SupernetSpace:
    """Return the space. The defaults are those of once-for-all for ImageNet, where the width multiplier is 1.3.

    Decisions ``stage1.depth``, and for each block ``stage1.block1.expansion`` and ``stage1.block1.kernel``, as in
    `mobilenet_v3`. `proxylessnas` has the candidates of the ProxylessNAS paper, each with weights of its own.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        width_multiplier: of all widths, which are rounded to multiples of 8; below 1 not of ``last_channels``.
        kernels: options of every block, odd and increasing.
        expansions: options of every block, increasing.
        depths: the largest number of blocks of each stage.
        min_depth: the smallest number of blocks of a stage; that of a stage with fewer blocks is its own.
        widths: output channels of each stage.
        strides: of the first block of each stage, 1 or 2.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: of the stem, 1 or 2.
        first_channels: output channels of the first block, in which nothing is searched.
        last_channels: output channels of the 1x1 convolution after the stages.
        dropout: probability of dropout before the classifier.
        kernel_transformation: whether trained matrices make the smaller kernels of a supernet, as in once-for-all;
            False: they are the centre of the largest kernel.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
    """
    check_lengths(depths=depths, widths=widths, strides=strides)
    scaled = Multiplied(width_multiplier)

    outline = Outline(
        num_classes=num_classes,
        input_shape=input_shape,
        stem_channels=scaled(stem_channels),
        stem_stride=stem_stride,
        activation="relu6",
        first=FirstBlock(scaled(first_channels), 1, "relu6"),
        stages=tuple(
            Stage(
                widths={1.0: scaled(width)},
                stride=stride,
                min_depth=min(min_depth, depth),
                max_depth=depth,
                kernels=kernels,
                expansions=expansions,
                activation="relu6",
            )
            for width, stride, depth in zip(widths, strides, depths, strict=True)
        ),
        last_channels=scaled.last(last_channels),
        dropout=dropout,
        norm=Norm(1e-3),
        kernel_transformation=kernel_transformation,
    )
    return StagedSpace(outline)
