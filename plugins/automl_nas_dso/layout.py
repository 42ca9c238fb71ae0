"""The settings of the DSO-NAS space, checked, and where its blocks stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas_dso.operations import parse

Sharing: TypeAlias = Literal["full", "share"]
StageShortcut: TypeAlias = Literal["projection", "identity"]


@dataclass(frozen=True)
class Preset:
    """A macro-structure of the paper.

    Attributes:
        blocks: of each stage.
        width: channels of the first stage; they double at every reduction.
        stem_strides: of the 3x3 convolutions at the beginning.
    """

    blocks: tuple[int, ...]
    width: int
    stem_strides: tuple[int, ...]


PRESETS = {
    "cifar10": Preset((8, 8, 8), 48, (1,)),
    "imagenet": Preset((2, 2, 13, 6), 28, (2, 2)),
}


@dataclass(frozen=True)
class Layout:
    """All that decides what the network looks like.

    Attributes:
        num_classes: outputs.
        input_shape: channels, height and width of an image.
        blocks: of each stage.
        width: channels of the first stage.
        stem_strides: of the 3x3 convolutions at the beginning.
        levels: of each block.
        operations: of each level.
        sharing: ``share``: all blocks have the same decisions.
        gate_inputs: whether the edges into the first level are searched.
        gate_reductions: whether the two branches of a reduction are searched.
        stage_shortcut: what leads around the first block of a stage.
        pool_norm: whether BN and ReLU follow a pooling.
        repeats: of separable convolutions.
        scale: whether batch normalisation in operations learns a scale.
        dropout: before the linear layer.
        drop_path: in the last block, at the end of training.
        drop_path_iterations: until it is reached.
        auxiliary: whether networks are trained with an auxiliary head.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    blocks: tuple[int, ...]
    width: int
    stem_strides: tuple[int, ...]
    levels: int
    operations: tuple[str, ...]
    sharing: Sharing
    gate_inputs: bool
    gate_reductions: bool
    stage_shortcut: StageShortcut
    pool_norm: bool
    repeats: int
    scale: bool
    dropout: float
    drop_path: float
    drop_path_iterations: int
    auxiliary: bool = False

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_operations(self.operations)
        for name, value in (("dropout", self.dropout), ("drop_path", self.drop_path)):
            if not 0 <= value < 1:
                raise SpaceError(f"{name} is a probability from 0 to below 1, not {value}")
        if self.auxiliary and len(self.blocks) < 2:
            raise SpaceError("the auxiliary head reads what the last reduction gives, so it needs two stages or more")
        _check_size(self)

    def channels(self, stage: int) -> int:
        """Return the width of a stage, counted from 0."""
        return self.width << stage

    def size(self, stage: int) -> tuple[int, int]:
        """Return height and width of the maps of a stage, counted from 0; halves are rounded up."""
        _, height, width = self.input_shape
        for stride in (*self.stem_strides, *((2,) * stage)):
            height, width = -(-height // stride), -(-width // stride)
        return height, width

    def points(self, stage: int) -> int:
        """Return height times width of the maps of a stage."""
        height, width = self.size(stage)
        return height * width

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """Node ``<operation>_<level>`` or ``output`` -> its possible sources, in a block."""
        nodes = [[f"{kind}_{level}" for kind in self.operations] for level in range(1, self.levels + 1)]
        earlier: list[str] = []
        sources: dict[str, tuple[str, ...]] = {}
        for names in nodes:
            sources |= dict.fromkeys(names, ("input", *earlier))
            earlier += names
        return {**sources, "output": tuple(earlier)}

    @property
    def macro(self) -> str:
        """The macro-structure in words, e.g. ``8+8+8 blocks``."""
        return f"{'+'.join(map(str, self.blocks))} blocks"


def preset(name: str) -> Preset:
    """Return a macro-structure by name.

    Raises:
        SpaceError: there is none of that name.
    """
    if name not in PRESETS:
        raise SpaceError(f"there is no preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def _check_counts(layout: Layout) -> None:
    if not layout.blocks:
        raise SpaceError("blocks has one number for each stage, and there is at least one stage")
    for name, value in (
        ("num_classes", layout.num_classes),
        ("input channels", layout.input_shape[0]),
        ("width", layout.width),
        ("levels", layout.levels),
        ("repeats", layout.repeats),
        ("drop_path_iterations", layout.drop_path_iterations),
        *((f"blocks of stage {stage}", count) for stage, count in enumerate(layout.blocks, start=1)),
    ):
        if value < 1:
            raise SpaceError(f"{name} is at least 1, not {value}")


def _check_operations(operations: Sequence[str]) -> None:
    if not operations:
        raise SpaceError("operations names at least one operation, e.g. [sep3, sep5, avg3, max3]")
    for kind in operations:
        parse(kind)
    if twice := [kind for kind in operations if list(operations).count(kind) > 1]:
        raise SpaceError(f"operations names '{twice[0]}' twice; a level has each operation once")


def _check_size(layout: Layout) -> None:
    height, width = layout.input_shape[1:]
    if min(height, width) < 1:
        raise SpaceError(f"images have at least one pixel, not {height}x{width}")
    if not layout.stem_strides:
        raise SpaceError("stem_strides has one number for each convolution of the stem, at least one")
    if wrong := [stride for stride in layout.stem_strides if stride not in (1, 2)]:
        raise SpaceError(f"a stride is 1 or 2, not {wrong[0]} (stem_strides {layout.stem_strides})")
    halvings = layout.stem_strides.count(2) + len(layout.blocks) - 1
    # n halvings, each rounded up, leave more than one pixel before the last one iff 2^(n-1) < the size.
    if halvings and min(height, width) <= 1 << (halvings - 1):
        raise SpaceError(
            f"images of {height}x{width} are too small for {halvings} halvings (stem_strides "
            f"{layout.stem_strides} and {len(layout.blocks) - 1} reductions): give fewer stages or strides of 1"
        )
