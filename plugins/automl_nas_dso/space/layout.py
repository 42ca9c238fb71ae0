"""The settings of the DSO-NAS space, checked, and the sizes and widths that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas_dso.space.operations import parse

Sharing: TypeAlias = Literal["full", "share"]
StageShortcut: TypeAlias = Literal["projection", "identity"]


@dataclass(frozen=True)
class Preset:
    """A macro-structure of the paper.

    Attributes:
        blocks: number of blocks of each stage.
        width: channels of the first stage; they double at every reduction.
        stem_strides: strides of the 3x3 convolutions of the stem.
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
    """All settings that determine the network.

    Attributes:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        blocks: number of blocks of each stage.
        width: channels of the first stage.
        stem_strides: strides of the 3x3 convolutions of the stem.
        levels: number of levels of each block.
        operations: the operations of each level.
        sharing: ``share``: all blocks have the same decisions.
        gate_inputs: whether the edges into the first level are searched.
        gate_reductions: whether the two branches of a reduction are searched.
        stage_shortcut: the shortcut of the first block of a stage.
        pool_norm: whether BN and ReLU follow a pooling.
        repeats: number of applications of a separable convolution.
        scale: whether batch normalisation in operations learns a scale.
        dropout: probability before the linear layer.
        drop_path: final probability in the last block.
        drop_path_iterations: training batches until the final probability.
        auxiliary: whether networks are trained with an auxiliary head.

    Raises:
        SpaceError: a setting is outside its range, or images are too small for the strides.
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
                raise SpaceError(f"{name} must be a probability, at least 0 and below 1, not {value}")
        if self.auxiliary and len(self.blocks) < 2:
            raise SpaceError(
                "auxiliary needs two or more stages, since the auxiliary head reads the output of the last reduction"
            )
        _check_size(self)

    def channels(self, stage: int) -> int:
        """Return the width of a stage, counted from 0."""
        return self.width << stage

    def size(self, stage: int) -> tuple[int, int]:
        """Return height and width of the maps of a stage, counted from 0; each halving rounds up."""
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
        """Node ``<operation>_<level>`` or ``output`` -> its possible sources; the same in every block."""
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
        SpaceError: the name is unknown.
    """
    if name not in PRESETS:
        raise SpaceError(f"unknown preset '{name}'{did_you_mean(name, PRESETS)}")
    return PRESETS[name]


def _check_counts(layout: Layout) -> None:
    if not layout.blocks:
        raise SpaceError("blocks must contain one number for each stage, and at least one stage")
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
            raise SpaceError(f"{name} must be at least 1, not {value}")


def _check_operations(operations: Sequence[str]) -> None:
    if not operations:
        raise SpaceError("operations must contain at least one operation, e.g. [sep3, sep5, avg3, max3]")
    for kind in operations:
        parse(kind)
    if repeated := [kind for kind in operations if list(operations).count(kind) > 1]:
        raise SpaceError(
            f"operations contains '{repeated[0]}' more than once; each operation may occur once in a level"
        )


def _check_size(layout: Layout) -> None:
    height, width = layout.input_shape[1:]
    if min(height, width) < 1:
        raise SpaceError(f"images must have at least one pixel, not {height}x{width}")
    if not layout.stem_strides:
        raise SpaceError("stem_strides must contain one number for each convolution of the stem, and at least one")
    if invalid := [stride for stride in layout.stem_strides if stride not in (1, 2)]:
        raise SpaceError(f"a stride must be 1 or 2, not {invalid[0]} (stem_strides {layout.stem_strides})")
    halvings = layout.stem_strides.count(2) + len(layout.blocks) - 1
    # With n halvings, each rounded up, more than one pixel remains before the last halving iff 2^(n-1) < the size.
    if halvings and min(height, width) <= 1 << (halvings - 1):
        raise SpaceError(
            f"images of {height}x{width} are too small for {halvings} halvings (stem_strides "
            f"{layout.stem_strides} and {len(layout.blocks) - 1} reductions): set fewer stages or strides of 1"
        )
