"""The space of once-for-all: MobileNetV3 with searched kernels, expansions and depths.

"Once-for-All: Train One Network and Specialize it for Efficient Deployment", Cai et al. 2020, arXiv 1908.09791.
"""

from __future__ import annotations

from automl_nas.space import SupernetSpace
from automl_nas_spaces.mobile.blocks import Activation, Norm, Squeeze
from automl_nas_spaces.mobile.outline import FirstBlock, Outline, Stage, StagedSpace, check_lengths
from automl_nas_spaces.mobile.rules import Multiplied, Squeezed


def mobilenet_v3(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    width_multiplier: float = 1.0,
    kernels: tuple[int, ...] = (3, 5, 7),
    expansions: tuple[float, ...] = (3, 4, 6),
    depths: tuple[int, ...] = (4, 4, 4, 4, 4),
    min_depth: int = 2,
    widths: tuple[int, ...] = (24, 40, 80, 112, 160),
    strides: tuple[int, ...] = (2, 2, 2, 1, 2),
    activations: tuple[Activation, ...] = ("relu", "relu", "hardswish", "hardswish", "hardswish"),
    squeeze: tuple[bool, ...] = (False, True, False, True, True),
    stem_channels: int = 16,
    stem_stride: int = 2,
    first_stride: int = 1,
    first_squeeze: bool = False,
    last_channels: tuple[int, int] = (960, 1280),
    last_bias: bool = False,
    dropout: float = 0.1,
    bn_eps: float = 1e-5,
    kernel_transformation: bool = True,
) -> SupernetSpace:
    """Return the space. The defaults are those of once-for-all for ImageNet: 7371^5, about 2 * 10^19, networks.

    Decisions ``stage1.depth``, the number of blocks, and for each block ``stage1.block1.expansion``, the hidden width
    relative to the input, and ``stage1.block1.kernel``, the side of the depthwise convolution's kernel. All networks
    share weights: narrower blocks use the first channels, smaller kernels the centre, shallower stages the first
    blocks. Costs are not additive: the cost of a block depends on its kernel, its expansion and the depth together.

    Settings change the size of the networks, not the options: a space of a smaller ``width_multiplier`` or for smaller
    images has the same architectures, so that a search in the small one gives an architecture for the large one.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image. For small ones set ``stem_stride`` and some ``strides``
            to 1.
        width_multiplier: of all widths, which are rounded to multiples of 8.
        kernels: options of every block, odd and increasing.
        expansions: options of every block, increasing.
        depths: the largest number of blocks of each stage.
        min_depth: the smallest number of blocks of a stage; that of a stage with fewer blocks is its own.
        widths: output channels of each stage.
        strides: of the first block of each stage, 1 or 2.
        activations: of the blocks of each stage.
        squeeze: whether the blocks of each stage have squeeze-and-excitation.
        stem_channels: output channels of the 3x3 convolution of the stem and of the first block.
        stem_stride: of the stem, 1 or 2.
        first_stride: of the first block, in which nothing is searched.
        first_squeeze: whether the first block has squeeze-and-excitation.
        last_channels: output channels of the 1x1 convolution after the stages, and of the linear layer after the
            pooling.
        last_bias: whether that linear layer has a bias, as in torchvision.
        dropout: probability of dropout before the classifier.
        bn_eps: of batch normalisation; torchvision has 0.001.
        kernel_transformation: whether trained matrices make the smaller kernels of a supernet, as in once-for-all;
            False: they are the centre of the largest kernel. Single networks have no such matrices.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
    """
    check_lengths(depths=depths, widths=widths, strides=strides, activations=activations, squeeze=squeeze)
    scaled = Multiplied(width_multiplier)

    stages = zip(widths, strides, depths, activations, squeeze, strict=True)
    stem = scaled(stem_channels)
    outline = Outline(
        num_classes=num_classes,
        input_shape=input_shape,
        stem_channels=stem,
        stem_stride=stem_stride,
        activation="hardswish",
        first=FirstBlock(stem, first_stride, "relu", _squeeze if first_squeeze else None),
        stages=tuple(
            Stage(
                widths={1.0: scaled(width)},
                stride=stride,
                min_depth=min(min_depth, depth),
                max_depth=depth,
                kernels=kernels,
                expansions=expansions,
                activation=activation,
                squeeze=_squeeze if squeezed else None,
            )
            for width, stride, depth, activation, squeezed in stages
        ),
        last_channels=scaled(last_channels[0]),
        features=scaled(last_channels[1]),
        features_bias=last_bias,
        dropout=dropout,
        norm=Norm(bn_eps),
        kernel_transformation=kernel_transformation,
    )
    return StagedSpace(outline)


def _squeeze(inputs: int) -> Squeeze:
    return Squeeze(Squeezed(), "relu", "hardsigmoid")
