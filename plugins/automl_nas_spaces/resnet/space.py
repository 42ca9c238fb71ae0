"""The space `resnet`: the ResNet-50 space of once-for-all, and other ResNets."""

from __future__ import annotations

from collections.abc import Sequence

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ModuleSpace, SearchSpace
from automl_nas_spaces.resnet.blocks import BlockKind, Downsample
from automl_nas_spaces.resnet.outline import Outline, StemKind


def resnet(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    block: BlockKind = "bottleneck",
    multipliers: tuple[float, ...] = (0.65, 0.8, 1.0),
    ratios: tuple[float, ...] = (0.2, 0.25, 0.35),
    widths: tuple[int, ...] = (256, 512, 1024, 2048),
    min_depths: tuple[int, ...] = (2, 2, 4, 2),
    max_depths: tuple[int, ...] = (4, 4, 6, 4),
    strides: tuple[int, ...] = (1, 2, 2, 2),
    stem: StemKind = "deep",
    stem_width: int = 64,
    stem_stride: int = 2,
    stem_pool: bool = True,
    downsample: Downsample = "average",
    divisor: int = 8,
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space. The defaults are the ResNet-50 space of once-for-all (Cai et al. 2020, arXiv 1908.09791).

    Decisions: ``stem.depth``, whether the stem has its middle convolution (0 or 1); ``stem.hidden`` and ``stem.width``,
    multipliers of the stem's widths; for each stage ``layer1.depth``, its number of blocks, and ``layer1.width``, the
    multiplier of its width; for each block ``layer1.0.ratio``, its width inside relative to that of its stage. Stem and
    first stage have one decision about their width if no convolution is between them in the first shortcut (the same
    width, stride 1). Multipliers that give the same width are one option.

    All networks share weights: a narrower layer uses the first channels, a shallower stage the first blocks. Layers
    have the names of torchvision, so that its weights load into a network of the same sizes, and into a supernet whose
    largest network it is (`automl_nas_spaces.resnet.members`).

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        block: ``bottleneck``: a 1x1, a 3x3 and a 1x1 convolution; ``basic``: two 3x3 convolutions.
        multipliers: options of every width, relative to ``widths`` and ``stem_width``.
        ratios: options of the width inside every block, relative to the width of its stage.
        widths: output channels of each stage.
        min_depths: the smallest number of blocks of each stage.
        max_depths: the largest number of blocks of each stage.
        strides: stride of the first block of each stage, 1 or 2.
        stem: ``deep``: three 3x3 convolutions, the second of which is residual and may be left out; ``7x7``: one
            convolution, as in torchvision; ``3x3``: one convolution, for small images.
        stem_width: output channels of the stem.
        stem_stride: of its first convolution, 1 or 2.
        stem_pool: whether the stem ends with a max pooling of stride 2. For images of 32x32 set it to false and
            ``stem_stride`` to 1.
        downsample: how a shortcut becomes smaller: ``average``, which is a pooling before its 1x1 convolution, or
            ``strided``, the convolution itself, as in torchvision.
        divisor: widths are rounded to multiples of it.
        dropout: dropout probability before the linear layer.

    Raises:
        SpaceError: settings contradict each other, nothing is left to search, or images are too small for the strides.
    """
    outline = Outline(
        num_classes=num_classes,
        input_shape=input_shape,
        block=block,
        multipliers=multipliers,
        ratios=ratios,
        widths=widths,
        min_depths=min_depths,
        max_depths=max_depths,
        strides=strides,
        stem=stem,
        stem_width=stem_width,
        stem_stride=stem_stride,
        stem_pool=stem_pool,
        downsample=downsample,
        divisor=divisor,
        dropout=dropout,
    )
    return ModuleSpace(outline.network, input_shape=outline.input_shape)


def from_lists(
    space: SearchSpace, *, depths: Sequence[int], ratios: Sequence[float], widths: Sequence[int]
) -> Architecture:
    """Return the architecture for the lists by which once-for-all describes a network.

    Args:
        space: a space that `resnet` returned, with the defaults but for ``num_classes`` and ``input_shape``.
        depths: five numbers from 0 to 2: of the stem, which has its middle convolution at 2 only, and of each stage,
            beyond its smallest depth (its argument ``d``).
        ratios: of all 18 blocks (``e``).
        widths: six positions of the options: of the stem's two widths and of each stage (``w``).

    Raises:
        SpaceError: a list is too short, or a value is not among the options.
    """
    stages = range(1, 5)
    blocks = [name for name in space.decisions if name.endswith(".ratio")]
    if (len(depths), len(ratios), len(widths)) != (5, len(blocks), 6):
        raise SpaceError(
            f"a network needs 5 depths, {len(blocks)} ratios and 6 widths, not {len(depths)}, {len(ratios)} and "
            f"{len(widths)}"
        )
    values: dict[str, object] = {"stem.depth": int(depths[0] == 2)}
    for stage, depth in zip(stages, depths[1:], strict=True):
        options = space.decisions[f"layer{stage}.depth"].options
        values[f"layer{stage}.depth"] = int(str(options[0])) + depth
    values.update(zip(blocks, ratios, strict=True))
    multipliers = space.decisions["layer4.width"].options
    names = ["stem.hidden", "stem.width", *(f"layer{stage}.width" for stage in stages)]
    for name, position in zip(names, widths, strict=True):
        multiplier = float(str(multipliers[position]))
        # Of multipliers that give the same width, the smallest is the option.
        values[name] = max(option for option in space.decisions[name].options if float(str(option)) <= multiplier)  # type: ignore[type-var]
    return space.validate(values)
