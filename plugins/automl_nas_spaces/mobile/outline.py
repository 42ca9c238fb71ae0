"""Networks of stages of inverted residual blocks, in which depth, kernels, expansions and widths are searched."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    Architecture,
    Decision,
    ModuleSpace,
    Repeat,
    Scalar,
    SearchSpace,
    Supernet,
    SupernetSpace,
    Value,
)
from automl_nas_spaces.mobile.blocks import Activation, Block, Norm, Squeeze, activation, convolution
from automl_nas_spaces.mobile.rules import Expanded


@final
@dataclass(frozen=True)
class Stage:
    """Blocks of the same output width, of which the first one may halve the size.

    Attributes:
        widths: scale -> output channels; with several, the scale is a decision.
        stride: of the first block.
        min_depth: the smallest number of blocks.
        max_depth: the largest number of blocks.
        kernels: the options of every block's kernel.
        expansions: the options of every block's expansion.
        activation: inside the blocks.
        squeeze: largest number of input channels of a block -> its squeeze-and-excitation; None: without.
    """

    widths: Mapping[Scalar, int]
    stride: int
    min_depth: int
    max_depth: int
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    activation: Activation
    squeeze: Callable[[int], Squeeze] | None = None

    @property
    def most(self) -> int:
        """The largest width."""
        return max(self.widths.values())


@final
@dataclass(frozen=True)
class FirstBlock:
    """The block without expansion after the stem, in which nothing is searched.

    Attributes:
        width: output channels.
        stride: of its depthwise 3x3 convolution.
        activation: after it.
        squeeze: number of input channels -> its squeeze-and-excitation; None: without.
    """

    width: int
    stride: int
    activation: Activation
    squeeze: Callable[[int], Squeeze] | None = None


@final
@dataclass(frozen=True)
class Outline:
    """A whole network; every setting is checked.

    Attributes:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: its stride.
        activation: of the stem and of the head.
        first: the block after the stem.
        stages: the stages.
        last_channels: output channels of the 1x1 convolution after the stages.
        features: width of the linear layer between the pooling and the classifier; 0: without it.
        features_bias: whether that layer has a bias.
        dropout: probability of dropout before the classifier.
        norm: settings of batch normalisation.
        kernel_transformation: whether small kernels are made by trained matrices.

    Raises:
        SpaceError: a setting is outside its range, or images are too small for the strides.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    stem_channels: int
    stem_stride: int
    activation: Activation
    first: FirstBlock
    stages: tuple[Stage, ...]
    last_channels: int
    features: int = 0
    features_bias: bool = False
    dropout: float = 0.0
    norm: Norm = field(default_factory=Norm)
    kernel_transformation: bool = False

    def __post_init__(self) -> None:
        check_image(self.num_classes, self.input_shape, self.dropout)
        check_strides(self.input_shape, [self.stem_stride, self.first.stride, *(each.stride for each in self.stages)])
        for number, stage in enumerate(self.stages, start=1):
            for what, options in (("kernels", stage.kernels), ("expansions", stage.expansions)):
                if not options or list(options) != sorted(set(options)) or min(options) < 1:
                    raise SpaceError(f"{what} must be increasing numbers from 1 on, not {tuple(options)}")
            if even := [kernel for kernel in stage.kernels if kernel % 2 == 0]:
                raise SpaceError(f"a kernel must be odd, so that sizes are kept, not {even[0]}")
            if not 1 <= stage.min_depth <= stage.max_depth:
                raise SpaceError(
                    f"stage {number} needs at least one block and no smaller depth than its smallest, not "
                    f"{stage.min_depth} to {stage.max_depth}"
                )

    def network(self, values: Mapping[str, Value] | None = None) -> nn.Sequential:
        """Return a network with fresh weights.

        Args:
            values: decision name -> value; None: the network with its choices.
        """
        stem, first, searched = self.stem_channels, self.first, values is None
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = convolution(self.input_shape[0], stem, 3, self.stem_stride, self.norm, self.activation)
        parts["first"] = Block(
            inputs=stem,
            outputs=first.width,
            stride=first.stride,
            kernels=(3,),
            expansions=(1,),
            activation=first.activation,
            norm=self.norm,
            squeeze=None if first.squeeze is None else first.squeeze(stem),
            shortcut=first.stride == 1 and stem == first.width,
        ).plain(stem, first.width, 3, 1)
        inputs = first.width
        for number, stage in enumerate(self.stages, start=1):
            name = f"stage{number}"
            if values is None:
                parts[name] = Repeat(
                    partial(self._searched_block, name, stage, inputs),
                    stage.min_depth,
                    stage.max_depth,
                    name=f"{name}.depth",
                )
                inputs = stage.most
            else:
                parts[name], inputs = self._plain_stage(name, stage, inputs, values)
        parts["last"] = convolution(inputs, self.last_channels, 1, 1, self.norm, self.activation, searched=searched)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        width = self.last_channels
        if self.features:
            linear = nn.Linear(width, self.features, bias=self.features_bias)
            parts["features"] = nn.Sequential(linear, activation(self.activation))
            width = self.features
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = nn.Linear(width, self.num_classes)
        return nn.Sequential(parts)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set widths and expansions that round to the same number of channels to the first of them.

        Args:
            architecture: decisions of blocks that the depths leave out stay as they are.
        """
        changed: dict[str, Value] = {}
        inputs = self.first.width
        for number, stage in enumerate(self.stages, start=1):
            name = f"stage{number}"
            width = stage.widths[_number(architecture, f"{name}.width", next(iter(stage.widths)))]
            if f"{name}.width" in architecture:
                changed[f"{name}.width"] = next(scale for scale, each in stage.widths.items() if each == width)
            for position in range(int(_number(architecture, f"{name}.depth", stage.max_depth))):
                key = f"{name}.block{position + 1}.expansion"
                if key in architecture:
                    hidden = Expanded(_number(architecture, key, 1))(inputs)
                    changed[key] = next(ratio for ratio in stage.expansions if Expanded(ratio)(inputs) == hidden)
                inputs = width
        changed = {name: value for name, value in changed.items() if value != architecture[name]}
        return architecture.replace(changed) if changed else architecture

    def _searched_block(self, name: str, stage: Stage, inputs: int, position: int) -> nn.Module:
        return self._block(stage, inputs, position).searched(f"{name}.block{position + 1}", f"{name}.width")

    def _plain_stage(self, name: str, stage: Stage, inputs: int, values: Mapping[str, Value]) -> tuple[nn.Module, int]:
        """Return the stage of an architecture, and its output channels."""
        width = stage.widths[_number(values, f"{name}.width", next(iter(stage.widths)))]
        blocks: list[nn.Module] = []
        before = inputs
        for position in range(int(_number(values, f"{name}.depth", stage.max_depth))):
            kernel = _number(values, f"{name}.block{position + 1}.kernel", stage.kernels[0])
            expansion = _number(values, f"{name}.block{position + 1}.expansion", stage.expansions[0])
            blocks.append(self._block(stage, inputs, position).plain(before, width, int(kernel), expansion))
            before = width
        return nn.Sequential(*blocks), width

    def _block(self, stage: Stage, inputs: int, position: int) -> Block:
        own = inputs if position == 0 else stage.most
        widths: int | Mapping[Scalar, int] = stage.widths if len(stage.widths) > 1 else stage.most
        # The first block of a stage of searched width has inputs of another decision's width.
        keeps = position > 0 or (stage.stride == 1 and widths == inputs)
        return Block(
            inputs=own,
            outputs=widths,
            stride=stage.stride if position == 0 else 1,
            kernels=stage.kernels,
            expansions=stage.expansions,
            activation=stage.activation,
            norm=self.norm,
            squeeze=None if stage.squeeze is None else stage.squeeze(own),
            shortcut=keeps,
            kernel_transformation=self.kernel_transformation,
        )


@final
class StagedSpace(SupernetSpace):
    """The networks of an `Outline` as a search space.

    Single networks are built directly: a `ModuleSpace` would build the largest network first, and extract them.

    Args:
        outline: the networks.
    """

    def __init__(self, outline: Outline) -> None:
        self._outline = outline
        self._whole = ModuleSpace(outline.network, input_shape=outline.input_shape)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the blocks."""
        return self._whole.decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._outline.input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`."""
        return self._outline.network(self.validate(architecture))

    def build_supernet(self) -> Supernet:
        """Return the supernet, with fresh weights."""
        return self._whole.build_supernet()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set decisions that make no difference to their first value.

        These are the decisions about blocks that the depths leave out, and options that give the same numbers of
        channels after rounding.
        """
        return self._outline.canonical(self._whole.canonical(architecture))

    @property
    def weighable(self) -> frozenset[str]:
        """No decision: depths, widths and kernels take values only."""
        return frozenset()

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of each stage."""
        return self._whole.segments()


def _number(values: Mapping[str, Value], name: str, default: Value) -> float:
    value = values.get(name, default)
    assert isinstance(value, int | float)
    return value


def check_image(num_classes: int, input_shape: Sequence[int], dropout: float) -> None:
    """Check settings that every network for images has.

    Raises:
        SpaceError: one is outside its range.
    """
    if num_classes < 1:
        raise SpaceError(f"num_classes must be at least 1, not {num_classes}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise SpaceError(f"images need the shape (channels, height, width), not {tuple(input_shape)}")
    if not 0 <= dropout < 1:
        raise SpaceError(f"dropout must be a probability, at least 0 and below 1, not {dropout}")


def check_strides(input_shape: Sequence[int], strides: Sequence[int]) -> None:
    """Check that an image is large enough to be halved by every stride of 2.

    Raises:
        SpaceError: it is not, or a stride is not 1 or 2.
    """
    smallest = size = min(input_shape[1:])
    for stride in strides:
        if stride not in (1, 2):
            raise SpaceError(f"a stride must be 1 or 2, not {stride}")
        if stride == 2 and size == 1:
            raise SpaceError(
                f"images of {input_shape[1]}x{input_shape[2]} are too small for {list(strides).count(2)} strides of 2: "
                f"they can be halved {(smallest - 1).bit_length()} times; set stem_stride or some strides to 1"
            )
        # A convolution with padding kernel // 2 and stride 2 gives half of the pixels, rounded up.
        size = -(-size // stride)


def check_lengths(**settings: Sequence[object]) -> None:
    """Check that settings have one entry for each stage.

    Raises:
        SpaceError: their lengths differ, or there is no stage.
    """
    lengths = {name: len(values) for name, values in settings.items()}
    if len(set(lengths.values())) != 1 or not min(lengths.values()):
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise SpaceError(f"{', '.join(lengths)} must have one entry for each stage; their lengths are: {listed}")


def from_lists(
    space: SearchSpace, kernels: Sequence[int], expansions: Sequence[float], depths: Sequence[int]
) -> Architecture:
    """Return the architecture for the lists with which the code of once-for-all names a network.

    Args:
        space: `mobilenet_v3`, `mobilenet_v2`, `proxylessnas_elastic` or `efficientnet`.
        kernels: of all blocks whose kernel is searched, also of those that the depths leave out.
        expansions: of all blocks whose expansion is searched, likewise.
        depths: of all stages whose depth is searched.

    Raises:
        SpaceError: a list has another length, or a value that the space does not have.
    """
    values: dict[str, Value] = {}
    for kind, numbers in (("kernel", kernels), ("expansion", expansions), ("depth", depths)):
        names = [name for name in space.decisions if name.endswith(f".{kind}")]
        if len(numbers) != len(names):
            raise SpaceError(f"the space has {len(names)} decisions about a {kind}, not {len(numbers)}")
        values.update(zip(names, numbers, strict=True))
    return space.validate({**{name: 1.0 for name in space.decisions if name.endswith(".width")}, **values})
