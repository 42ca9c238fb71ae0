"""MobileNetV2 with searched kernels, expansions, depths and widths.

"MobileNetV2: Inverted Residuals and Linear Bottlenecks", Sandler et al. 2018, arXiv 1801.04381; table 2.
"""

from __future__ import annotations

from automl_nas.errors import SpaceError
from automl_nas.space import SupernetSpace
from automl_nas_spaces.mobile.outline import FirstBlock, Outline, Stage, StagedSpace, check_lengths
from automl_nas_spaces.mobile.rules import Multiplied


def mobilenet_v2(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    width_multiplier: float = 1.0,
    kernels: tuple[int, ...] = (3, 5, 7),
    expansions: tuple[float, ...] = (3, 4, 6),
    depths: tuple[int, ...] = (4, 4, 4, 4, 4, 1),
    min_depth: int = 2,
    scales: tuple[float, ...] = (1.0,),
    widths: tuple[int, ...] = (24, 32, 64, 96, 160, 320),
    strides: tuple[int, ...] = (2, 2, 2, 1, 2, 1),
    stem_channels: int = 32,
    stem_stride: int = 2,
    first_channels: int = 16,
    last_channels: int = 1280,
    dropout: float = 0.2,
    kernel_transformation: bool = False,
) -> SupernetSpace:
    """Return the space. With the defaults, torchvision's ``mobilenet_v2`` is one of its networks.

    Decisions ``stage1.depth``, ``stage1.width`` where there are several ``scales``, and for each block
    ``stage1.block1.expansion`` and ``stage1.block1.kernel``. All networks share weights. Costs are not additive.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        width_multiplier: of all widths, which are rounded to multiples of 8; below 1 not of ``last_channels``, as in
            the paper.
        kernels: options of every block, odd and increasing.
        expansions: options of every block, increasing.
        depths: the largest number of blocks of each stage.
        min_depth: the smallest number of blocks of a stage; that of a stage with fewer blocks is its own.
        scales: options of every stage's width, relative to ``widths``, increasing. With several, the first block of a
            stage adds no input.
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
    if not scales or list(scales) != sorted(set(scales)) or scales[0] <= 0:
        raise SpaceError(f"scales must be increasing numbers above 0, not {scales}")

    outline = Outline(
        num_classes=num_classes,
        input_shape=input_shape,
        stem_channels=scaled(stem_channels),
        stem_stride=stem_stride,
        activation="relu6",
        first=FirstBlock(scaled(first_channels), 1, "relu6"),
        stages=tuple(
            Stage(
                widths={scale: scaled(width * scale) for scale in scales},
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
        kernel_transformation=kernel_transformation,
    )
    return StagedSpace(outline)
