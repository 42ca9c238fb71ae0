"""Networks in whose every block one of several candidates runs, each with weights of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, Decision, ModuleSpace, OneOf, Supernet, SupernetSpace, Value
from automl_nas_spaces.mobile.blocks import Activation, Norm, Residual, activation, convolution
from automl_nas_spaces.mobile.outline import check_image, check_strides

SKIP = "skip"
"""The candidate that returns its input."""


@final
@dataclass(frozen=True)
class Candidate:
    """An inverted residual block of fixed kernel and expansion.

    Attributes:
        kernel: side of the depthwise convolution's kernel.
        expansion: hidden width relative to the input.
        groups: of both 1x1 convolutions; with several, channels are shuffled after the first one.
        expand_at_one: whether an expansion of 1 has its 1x1 convolution.
    """

    kernel: int
    expansion: int
    groups: int = 1
    expand_at_one: bool = True

    def build(self, place: Place, name: Activation, norm: Norm) -> nn.Module:
        """Return the block at a place, which adds its input if ``place.keeps``."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        hidden = place.inputs * self.expansion
        if self.expansion > 1 or self.expand_at_one:
            layer = nn.Conv2d(place.inputs, hidden, 1, groups=self.groups, bias=False)
            parts["expand"] = nn.Sequential(layer, norm(hidden, False), activation(name))
            if self.groups > 1:
                parts["shuffle"] = nn.ChannelShuffle(self.groups)
        depthwise = nn.Conv2d(hidden, hidden, self.kernel, place.stride, self.kernel // 2, groups=hidden, bias=False)
        parts["depthwise"] = nn.Sequential(depthwise, norm(hidden, False), activation(name))
        project = nn.Conv2d(hidden, place.outputs, 1, groups=self.groups, bias=False)
        parts["project"] = nn.Sequential(project, norm(place.outputs, False))
        layers = nn.Sequential(parts)
        return Residual(layers) if place.keeps else layers


@final
@dataclass(frozen=True)
class Place:
    """The position of a block.

    Attributes:
        stage: number of its stage, counted from 1.
        block: its number in the stage, counted from 1.
        inputs: number of input channels.
        outputs: number of output channels.
        stride: 1 or 2.
    """

    stage: int
    block: int
    inputs: int
    outputs: int
    stride: int

    @property
    def name(self) -> str:
        """The name of the block's decision, e.g. ``stage1.block2``."""
        return f"stage{self.stage}.block{self.block}"

    @property
    def keeps(self) -> bool:
        """Whether size and width stay the same, so that the input can be added, and the block skipped."""
        return self.stride == 1 and self.inputs == self.outputs


@final
@dataclass(frozen=True)
class CandidateOutline:
    """A network with a choice at every place.

    Attributes:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        stem_channels: output channels of the 3x3 convolution of the stem.
        stem_stride: its stride.
        first_channels: output channels of a block without expansion after the stem; 0: without it.
        widths: output channels of each stage.
        repeats: number of blocks of each stage.
        strides: of the first block of each stage.
        last_channels: output channels of the 1x1 convolution after the stages.
        candidates: name -> block, for every place; where the size stays the same, `SKIP` is one more.
        activation: of all layers.
        norm: settings of batch normalisation.
        dropout: probability of dropout before the classifier.

    Raises:
        SpaceError: a setting is outside its range, or images are too small for the strides.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    stem_channels: int
    stem_stride: int
    first_channels: int
    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    strides: tuple[int, ...]
    last_channels: int
    candidates: Mapping[str, Candidate]
    activation: Activation
    norm: Norm
    dropout: float

    def __post_init__(self) -> None:
        check_image(self.num_classes, self.input_shape, self.dropout)
        check_strides(self.input_shape, [self.stem_stride, *self.strides])
        if min(self.repeats) < 1:
            raise SpaceError(f"a stage must have at least one block, not {min(self.repeats)} (repeats {self.repeats})")
        for what, count in (("widths", min(self.widths)), ("last_channels", self.last_channels)):
            if count < 1:
                raise SpaceError(f"{what} must be at least 1, not {count}")

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The blocks of all stages, in the order of the network."""
        places: list[Place] = []
        inputs = self.first_channels or self.stem_channels
        for stage, (width, count, stride) in enumerate(
            zip(self.widths, self.repeats, self.strides, strict=True), start=1
        ):
            for block in range(1, count + 1):
                places.append(Place(stage, block, inputs, width, stride if block == 1 else 1))
                inputs = width
        return tuple(places)

    def options(self, place: Place) -> tuple[str, ...]:
        """Return the names of the candidates of a place."""
        return (*self.candidates, SKIP) if place.keeps else tuple(self.candidates)

    def candidate(self, place: Place, name: str) -> nn.Module:
        """Return a candidate of a place, with fresh weights."""
        if name == SKIP:
            return nn.Identity()
        return self.candidates[name].build(place, self.activation, self.norm)

    def choices(self) -> nn.Module:
        """Return the network with its choices, with fresh weights."""
        return self.network(
            lambda place: OneOf({name: self.candidate(place, name) for name in self.options(place)}, place.name)
        )

    def network(self, block: Callable[[Place], nn.Module]) -> nn.Sequential:
        """Return the network with the module ``block(place)`` at each place, with fresh weights."""
        stem = self.stem_channels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["stem"] = convolution(self.input_shape[0], stem, 3, self.stem_stride, self.norm, self.activation)
        if self.first_channels:
            place = Place(0, 1, stem, self.first_channels, 1)
            parts["first"] = Candidate(3, 1, expand_at_one=False).build(place, self.activation, self.norm)
        for stage in range(1, len(self.widths) + 1):
            blocks = {f"block{place.block}": block(place) for place in self.places if place.stage == stage}
            parts[f"stage{stage}"] = nn.Sequential(OrderedDict(blocks))
        parts["last"] = convolution(self.widths[-1], self.last_channels, 1, 1, self.norm, self.activation)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = nn.Linear(self.last_channels, self.num_classes)
        return nn.Sequential(parts)


@final
class CandidateSpace(SupernetSpace):
    """The networks of a `CandidateOutline` as a search space.

    Decisions and single networks are made directly: the supernet has seven or nine times as many layers as a network.

    Args:
        outline: the networks.
    """

    def __init__(self, outline: CandidateOutline) -> None:
        self._outline = outline
        self._decisions = {place.name: Choice(outline.options(place)) for place in outline.places}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in the order of the blocks."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._outline.input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`."""
        checked = self.validate(architecture)
        return self._outline.network(lambda place: self._outline.candidate(place, str(checked[place.name])))

    def build_supernet(self) -> Supernet:
        """Return the supernet, with fresh weights."""
        return self._whole.build_supernet()

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decision of each block."""
        return tuple((place.name,) for place in self._outline.places)

    @cached_property
    def _whole(self) -> ModuleSpace:
        return ModuleSpace(self._outline.choices, input_shape=self._outline.input_shape)


def from_names(space: SupernetSpace, names: Sequence[str]) -> Architecture:
    """Return the architecture for the names of the candidates of all blocks, such as ``k5_e6`` and ``skip``.

    Raises:
        SpaceError: the number of names is wrong, or a block has no such candidate.
    """
    if len(names) != len(space.decisions):
        raise SpaceError(f"the space has {len(space.decisions)} blocks, not {len(names)}")
    values: dict[str, Value] = dict(zip(space.decisions, names, strict=True))
    return space.validate(values)
