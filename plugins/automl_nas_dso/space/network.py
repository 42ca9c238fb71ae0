"""The fully connected network of DSO-NAS for a layout."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from automl_nas.space import Dag
from automl_nas_dso.space.drop_path import DropPath
from automl_nas_dso.space.layout import Layout
from automl_nas_dso.space.operations import conv_norm_relu, norm, operation

BLOCK = "block"
"""Prefix of the names of tied decisions of blocks: ``block.sep3_1``, ..., ``block.output``."""
REDUCTION = "reduction"
"""Prefix of the names of tied decisions of reductions."""


def network(layout: Layout) -> nn.Sequential:
    """Return stem, stages and head; see `automl_nas_dso.space.dso_space.DsoSpace`."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(stem=_stem(layout))
    total, index = sum(layout.blocks), 0
    for stage, count in enumerate(layout.blocks):
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        if stage:
            modules[REDUCTION] = reduction(layout, stage)
        for number in range(count):
            index += 1
            modules[f"{BLOCK}{number + 1}"] = block(
                layout, stage, first=number == 0, drop_path=layout.drop_path * index / total
            )
        parts[f"stage{stage + 1}"] = nn.Sequential(modules)
    parts["head"] = _head(layout)
    return nn.Sequential(parts)


def block(layout: Layout, stage: int, *, first: bool, drop_path: float = 0.0) -> Dag:
    """Return a fully connected block: ``R([lambda h]) + shortcut``, R is a 1x1 convolution, BN and ReLU.

    Args:
        layout: the layout of the network.
        stage: the block's stage, counted from 0.
        first: whether it is the first block of its stage.
        drop_path: the final probability of dropping the output of an operation.
    """
    channels, sources = layout.channels(stage), layout.sources
    nodes: dict[str, nn.Module] = {}
    for node in sources:
        if node == "output":
            continue
        nodes[node] = operation(
            node.rpartition("_")[0],
            channels,
            repeats=layout.repeats,
            pool_norm=layout.pool_norm,
            scale=layout.scale,
        )
        if drop_path:
            nodes[node].append(DropPath(drop_path, layout.drop_path_iterations))  # type: ignore[operator]
    projected = first and layout.stage_shortcut == "projection"
    return Dag(
        nodes,
        sources,
        nn.Conv2d(len(nodes) * channels, channels, 1, bias=False),
        after=nn.Sequential(norm(channels), nn.ReLU(inplace=True)),
        shortcut=conv_norm_relu(channels, channels, 1) if projected else nn.Identity(),
        fixed=() if layout.gate_inputs else [node for node, read in sources.items() if read == ("input",)],
        name=BLOCK if layout.sharing == "share" else None,
    )


REDUCTION_SOURCES = {"conv1": ("input",), "conv3": ("input",), "output": ("conv1", "conv3")}
"""The graph of a reduction: two convolutions of stride 2, whose outputs are added."""


def reduction(layout: Layout, stage: int) -> Dag:
    """Return the reduction before a stage (counted from 0); it halves the size and doubles the width."""
    inp, out = layout.channels(stage - 1), layout.channels(stage)
    gated = layout.gate_reductions
    return Dag(
        {"conv1": conv_norm_relu(inp, out, 1, 2), "conv3": conv_norm_relu(inp, out, 3, 2)},
        REDUCTION_SOURCES,
        fixed=("conv1", "conv3") if gated else ("conv1", "conv3", "output"),
        required=("output",) if gated else (),
        name=REDUCTION if gated and layout.sharing == "share" else None,
    )


def _stem(layout: Layout) -> nn.Sequential:
    inp, layers = layout.input_shape[0], []
    for stride in layout.stem_strides:
        layers.append(conv_norm_relu(inp, layout.width, 3, stride))
        inp = layout.width
    return nn.Sequential(*layers)


def _head(layout: Layout) -> nn.Sequential:
    channels = layout.channels(len(layout.blocks) - 1)
    return nn.Sequential(
        OrderedDict(
            norm=norm(channels),
            relu=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(layout.dropout),
            linear=nn.Linear(channels, layout.num_classes),
        )
    )
