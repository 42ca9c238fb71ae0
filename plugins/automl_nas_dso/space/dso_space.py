"""The search space of DSO-NAS.

"You Only Search Once: Single Shot Neural Architecture Search via Direct Sparse Optimization", Zhang, Huang, Wang, arXiv
1811.01567, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal, final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, ModuleSpace, Supernet
from automl_nas_dso.space.auxiliary_head import DsoNetwork, auxiliary_head
from automl_nas_dso.space.edges import Block, Cost, EdgeSpace
from automl_nas_dso.space.layout import Layout, Sharing, StageShortcut, preset
from automl_nas_dso.space.network import BLOCK, REDUCTION, REDUCTION_SOURCES, network
from automl_nas_dso.space.operations import convolution_cost, operation_cost, output_edge_cost


@final
class DsoSpace(EdgeSpace):
    """Stages of fully connected blocks with M levels of N operations; every edge is searched.

    An operation reads the weighted sum of the block's input and of every operation of the earlier levels; the block's
    output is a 1x1 convolution of the weighted concatenation of all operations, BN and ReLU, plus the shortcut. A
    reduction before every stage except the first halves the maps and doubles the width. Decisions are subsets of
    sources, named ``stage1.block1.sep3_2`` (the sources of the 3x3 separable convolution of level 2) and
    ``stage1.block1.output``, or, if they are tied, ``block.sep3_2`` and ``block.output``. A block without a live path
    computes its shortcut only.

    Defaults that the paper does not specify are those of the authors' code.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        preset: the macro-structure, ``cifar10`` (8+8+8 blocks, width 48, stem of stride 1) or ``imagenet`` (2+2+13+6
            blocks, width 28, two convolutions of stride 2). The next three settings replace parts of it.
        blocks: number of blocks of each stage; a reduction comes before every stage except the first.
        width: channels of the first stage; they double at every reduction.
        stem_strides: strides of the 3x3 convolutions of the stem, one number for each convolution.
        levels: M, the number of levels of a block.
        operations: the N operations of each level: ``sep3``, ``sep5``, ``dil3``, ``conv3``, ``avg3``, ``max3`` and the
            like with any odd kernel.
        sharing: ``share``: one set of decisions for all blocks (and one for all reductions), so that architectures
            are portable between macro-structures; ``full``: each block has its own. Weights are never shared.
        gate_inputs: whether the edges from the input into the first level are searched (paper: 128 edges for 4 x 4;
            authors' code: not searched, 124 edges).
        gate_reductions: whether the two branches of a reduction are searched (authors' code; at least one
            remains).
        stage_shortcut: the shortcut of the first block of a stage: a 1x1 convolution with BN and ReLU (``projection``,
            authors' code) or the input itself (``identity``), as in all other blocks.
        pool_norm: whether BN and ReLU follow a pooling; without them the sums grow without bound.
        repeats: number of applications of a separable convolution.
        variant: ``search``: the scale of batch normalisation inside operations is fixed to 1 (it would absorb
            lambda), the shift is learned; ``final``: both are learned. Architectures and weights are the same in both.
        scale: whether batch normalisation inside operations learns a scale; None: as ``variant`` implies.
        dropout: dropout probability before the linear layer.
        drop_path: the probability of dropping an operation's output for a sample, in the last block; it grows
            linearly with depth.
        drop_path_iterations: training batches over which ``drop_path`` grows from 0; 1: the full probability from the
            beginning.
        auxiliary: whether a network that is trained alone has a second head during training, after the last reduction
            (paper). `Recipe.auxiliary` is the weight of its loss. The head is not part of the network: it is not
            counted, saved or exported.

    Attributes:
        layout: all settings, with the preset applied.

    Raises:
        SpaceError: settings contradict each other, or images are too small for the strides.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        preset: Literal["cifar10", "imagenet"] = "cifar10",
        blocks: tuple[int, ...] | None = None,
        width: int | None = None,
        stem_strides: tuple[int, ...] | None = None,
        levels: int = 4,
        operations: tuple[str, ...] = ("sep3", "sep5", "avg3", "max3"),
        sharing: Sharing = "share",
        gate_inputs: bool = True,
        gate_reductions: bool = False,
        stage_shortcut: StageShortcut = "projection",
        pool_norm: bool = True,
        repeats: int = 1,
        variant: Literal["search", "final"] = "search",
        scale: bool | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        drop_path_iterations: int = 1,
        auxiliary: bool = False,
    ) -> None:
        macro = _preset(preset)
        self.layout = Layout(
            num_classes=num_classes,
            input_shape=input_shape,
            blocks=macro.blocks if blocks is None else blocks,
            width=macro.width if width is None else width,
            stem_strides=macro.stem_strides if stem_strides is None else stem_strides,
            levels=levels,
            operations=operations,
            sharing=sharing,
            gate_inputs=gate_inputs,
            gate_reductions=gate_reductions,
            stage_shortcut=stage_shortcut,
            pool_norm=pool_norm,
            repeats=repeats,
            scale=variant == "final" if scale is None else scale,
            dropout=dropout,
            drop_path=drop_path,
            drop_path_iterations=drop_path_iterations,
            auxiliary=auxiliary,
        )
        self._space = ModuleSpace(partial(network, self.layout), input_shape=self.layout.input_shape)
        self._blocks = tuple(_blocks(self.layout))

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """A `Subset` of sources for every target whose edges are searched; see the class."""
        return self._space.decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return self._space.input_shape

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks, and the reductions if they are gated, in the order of the network."""
        return self._blocks

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights, without lambda; see `SearchSpace.build`."""
        built, layout = self._space.build(architecture), self.layout
        if not layout.auxiliary:
            return built
        stage = len(layout.blocks) - 1
        head = partial(auxiliary_head, layout.channels(stage), layout.size(stage), layout.num_classes)
        return DsoNetwork(built, head, f"stage{stage + 1}")

    def build_supernet(self) -> Supernet:
        """Return the fully connected network with fresh weights."""
        return self._space.build_supernet()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Remove every edge that is not on a live path from a block's input to its output."""
        return self._space.canonical(architecture)

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of the consecutive blocks."""
        return self._space.segments()


# In the constructor, the setting `preset` hides the function of the same name.
_preset = preset


def transfer(architecture: Mapping[str, object], source: DsoSpace, target: DsoSpace) -> Architecture:
    """Return the architecture with the same blocks in another macro-structure.

    Tied decisions fit any number of blocks; in a space with ``sharing: full`` each block gets their values.

    Args:
        architecture: an architecture of ``source``.
        source: the space of the architecture.
        target: the space of the result.

    Raises:
        SpaceError: the blocks of the two spaces differ; the message contains the setting to change.
    """
    values = source.validate(architecture)
    if dict(source.decisions) == dict(target.decisions):
        return target.validate(values)
    if source.layout.sources != target.layout.sources:
        raise SpaceError(
            "the blocks of the two spaces have different edges: set the same 'levels' and 'operations' in both"
        )
    for name in ("gate_inputs", "gate_reductions"):
        if getattr(source.layout, name) != getattr(target.layout, name):
            raise SpaceError(f"the two spaces search different edges: set the same '{name}' in both")
    if source.layout.sharing == "full":
        raise SpaceError(
            f"an architecture with sharing: full defines each of its {source.layout.macro} separately; it does not fit "
            f"{target.layout.macro} with sharing: {target.layout.sharing}. Only architectures with sharing: share are "
            "portable between macro-structures: search with it, or set the same blocks and sharing"
        )
    return target.validate(_spread(values, target))


def _spread(values: Architecture, target: DsoSpace) -> dict[str, object]:
    spread: dict[str, object] = {}
    for name, decision in target.decisions.items():
        path, _, node = name.rpartition(".")
        place = path.rpartition(".")[2]
        tied = f"{REDUCTION if place.startswith(REDUCTION) else BLOCK}.{node}"
        # The architecture of a network without reductions has no value for them: both branches are used.
        spread[name] = values.get(tied, decision.options)
    return spread


def _blocks(layout: Layout) -> list[Block]:
    blocks = []
    shared = layout.sharing == "share"
    for stage, count in enumerate(layout.blocks):
        path = f"stage{stage + 1}"
        if stage and layout.gate_reductions:
            blocks.append(_reduction(layout, stage, f"{path}.{REDUCTION}", shared))
        for number in range(1, count + 1):
            blocks.append(_block(layout, stage, f"{path}.{BLOCK}{number}", shared))
    return blocks


def _block(layout: Layout, stage: int, path: str, shared: bool) -> Block:
    channels, points, sources = layout.channels(stage), layout.points(stage), layout.sources
    kinds = {node: node.rpartition("_")[0] for node in sources if node != "output"}
    edge = output_edge_cost(channels, points)
    return Block(
        path,
        sources,
        {
            target: f"{BLOCK if shared else path}.{target}"
            for target, read in sources.items()
            if layout.gate_inputs or read != ("input",)
        },
        kinds,
        {node: operation_cost(kind, channels, points, repeats=layout.repeats) for node, kind in kinds.items()},
        dict.fromkeys(sources["output"], edge),
    )


def _reduction(layout: Layout, stage: int, path: str, shared: bool) -> Block:
    inp, out = layout.channels(stage - 1), layout.channels(stage)
    kernels = {"conv1": 1, "conv3": 3}
    return Block(
        path,
        REDUCTION_SOURCES,
        {"output": f"{REDUCTION if shared else path}.output"},
        {node: node for node in kernels},
        dict.fromkeys(kernels, Cost(0, 0)),
        {
            node: convolution_cost(inp, out, kernel, layout.points(stage - 1), layout.points(stage))
            for node, kernel in kernels.items()
        },
    )
