"""Multiply-adds, activations, layers and parameters of blocks: `BlockCounts`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.blocks.structure import BlockStructure, Key, block_structure
from automl_nas_costs.counting.counts import count, parameters
from automl_nas_costs.network_builder import network_of

Array: TypeAlias = NDArray[np.float64]

KINDS = ("dense", "grouped", "depthwise")
"""Kinds of layers that multiply; devices run them at different speeds. Grouped: several channels in each group."""

ALIGNMENTS = (16, 8, 4, 1)
"""A layer's multiply-adds count under the first of these numbers that divides its channels (of a group): runtimes have
kernels for whole vectors of 4, 8 or 16 numbers, and channels that do not fill vectors may take many times as long."""

_OF_KIND = (*(f"multiply-adds, channels in {n}s" for n in ALIGNMENTS), "multiply-adds to fill up", "activations")

NAMES = (
    *(f"{kind} {what}" for kind in KINDS for what in (*_OF_KIND, "layers")),
    "parameters",
    "activations of other layers",
)
"""What is counted of a block. Multiply-adds to fill up are those of the channels that would complete vectors of 16;
activations are elements read and written; layers count because each takes some time to start."""


@final
class BlockCounts:
    """The blocks of a space's networks, and what is counted of each.

    Attributes:
        structure: the blocks of the space's networks.
        keys: of the blocks, in order.
        names: the columns of ``counted``: those of `NAMES` that are above 0 for some block.
        counted: counts of each block, shape ``(blocks, names)``, each relative to the mean of all networks.

    Raises:
        SpaceError: the space cannot build networks, or they cannot be split into blocks or counted.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.structure: BlockStructure = block_structure(space)
        blocks = _count_blocks(space, self.structure)
        self.keys: tuple[Key, ...] = tuple(blocks)
        self._places = {key: place for place, key in enumerate(self.keys)}
        counted = np.array([blocks[key] for key in self.keys])
        mean = np.zeros(len(NAMES))
        for uses in self.structure.uses:
            for keys in uses.values():
                mean += sum((blocks[key] for key in keys), np.zeros(len(NAMES))) / len(uses)
        self.names: tuple[str, ...] = tuple(name for name, value in zip(NAMES, mean, strict=True) if value > 0)
        self.counted: Array = counted[:, mean > 0] / mean[mean > 0]

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the number of times that each network runs each block, shape ``(n, blocks)``."""
        numbers = np.zeros((len(architectures), len(self.keys)))
        for row, architecture in enumerate(architectures):
            for _, key in self.structure.keys(architecture):
                numbers[row, self._places[key]] += 1
        return numbers


def _count_blocks(space: SearchSpace, structure: BlockStructure) -> dict[Key, Array]:
    holders: dict[Architecture, list[tuple[Key, int]]] = {}
    for key, (architecture, place) in structure.blocks.items():
        holders.setdefault(architecture, []).append((key, place))
    counted: dict[Key, Array] = {}
    for architecture, keys in holders.items():
        counts, sizes = count(space, architecture), parameters(space, architecture)
        network = network_of(space, architecture, "meta")
        for key, place in keys:
            part = structure.parts[place]
            # The counts of a module are those of all its calls together.
            calls = len(structure.uses[place][tuple(architecture[name] for name in part.decisions)])
            inside = [path for path, _ in network.named_modules() if _within(path, part.paths)]
            total = np.zeros(len(NAMES))
            for path in inside:
                module, size = network.get_submodule(path), sizes.get(path, 0)
                total += _row(module, counts.macs.get(path, 0), counts.accesses.get(path, 0), size)
            counted[key] = total / calls
    return counted


def _row(module: nn.Module, macs: int, accesses: int, size: int) -> Array:
    row = np.zeros(len(NAMES))
    row[-2] = size
    # Memory access includes the weights, which are most of the parameters.
    activations = max(accesses - size, 0)
    if not macs:
        row[-1] = activations
        return row
    groups = int(getattr(module, "groups", 1))
    ends = [
        int(getattr(module, f"{end}_channels", getattr(module, f"{end}_features", 0)) or 0) for end in ("in", "out")
    ]
    kind = 0 if groups == 1 else 2 if groups == ends[0] else 1
    channels = [channel // groups for channel in ends] if kind == 1 else ends
    aligned = next(place for place, n in enumerate(ALIGNMENTS) if all(channel % n == 0 for channel in channels))
    # A depthwise layer has one filter for each output channel, and nothing to fill up on the other side.
    filled: float = macs
    for channel in channels[1:] if kind == 2 else channels:
        filled *= -(-channel // ALIGNMENTS[0]) * ALIGNMENTS[0] / channel if channel else 1
    start = kind * (len(_OF_KIND) + 1)
    row[start + aligned] = macs
    row[start + len(ALIGNMENTS) :][:3] = filled - macs, activations, 1
    return row


def _within(path: str, roots: Sequence[str]) -> bool:
    return any(not root or path == root or path.startswith(f"{root}.") for root in roots)
