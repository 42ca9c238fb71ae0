"""What is counted of whole networks, as features: sums over their blocks, so that no network has to be traced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas_costs.counting import count, parameters, untouched
from automl_nas_costs.prediction.blocks import Key, Plan, plan
from automl_nas_costs.prediction.features import Array

NAMES = (
    "dense multiply-adds",
    "grouped multiply-adds",
    "unaligned dense multiply-adds",
    "unaligned grouped multiply-adds",
    "memory access",
    "parameters",
    "layers",
)
"""Devices run dense layers at another speed than depthwise ones, and each layer takes some time to start. Unaligned are
those of layers whose channels are no multiple of `ALIGNMENT`: runtimes have kernels for whole vectors of channels."""

ALIGNMENT = 16


@final
class Counts:
    """`NAMES` of each network, each divided by the range it may have.

    A space that builds no networks has none, nor one whose networks cannot be cut into blocks or counted.

    Args:
        space: of the architectures.
        enabled: whether anything is counted.
    """

    def __init__(self, space: SearchSpace, *, enabled: bool = True) -> None:
        self._space, self._enabled = space, enabled and bool(space.input_shape)

    @cached_property
    def _table(self) -> tuple[Plan, dict[Key, Array], Array, Array] | None:
        if not self._enabled:
            return None
        try:
            found = plan(self._space)
            blocks = _count_blocks(self._space, found)
        except SpaceError:
            return None
        ends = np.zeros((2, len(NAMES)))
        for uses in found.uses:
            sums = np.array([sum((blocks[key] for key in keys), np.zeros(len(NAMES))) for keys in uses.values()])
            ends += np.stack([sums.min(axis=0), sums.max(axis=0)])
        return found, blocks, ends[0], ends[1] - ends[0]

    @property
    def width(self) -> int:
        """How many there are."""
        return 0 if self._table is None else int((self._table[3] > 0).sum())

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return the counts, shape ``(n, width)``, from 0 to the root of the number of decisions.

        That is as far apart as architectures are that differ in half of their decisions.
        """
        if self._table is None:
            return np.zeros((len(architectures), 0))
        found, blocks, low, length = self._table
        rows = [sum((blocks[key] for _, key in found.keys(item)), np.zeros(len(NAMES))) for item in architectures]
        useful = length > 0
        scaled = (np.array(rows).reshape(len(rows), len(NAMES)) - low)[:, useful] / length[useful]
        return scaled * math.sqrt(len(self._space.decisions))


def _count_blocks(space: SearchSpace, found: Plan) -> dict[Key, Array]:
    shown: dict[Architecture, list[tuple[Key, int]]] = {}
    for key, (architecture, place) in found.blocks.items():
        shown.setdefault(architecture, []).append((key, place))
    counted: dict[Key, Array] = {}
    for architecture, keys in shown.items():
        counts, sizes = count(space, architecture), parameters(space, architecture)
        with untouched(), torch.device("meta"):
            network = space.build(architecture)
        for key, place in keys:
            part = found.parts[place]
            # A module that is called several times shares what was counted of it among its calls.
            calls = len(found.uses[place][tuple(architecture[name] for name in part.decisions)])
            inside = [path for path, _ in network.named_modules() if _within(path, part.paths)]
            total = np.zeros(len(NAMES))
            for path in inside:
                total += _row(network.get_submodule(path), counts.macs.get(path, 0))
                total[4] += counts.accesses.get(path, 0)
                total[5] += sizes.get(path, 0)
            counted[key] = total / calls
    return counted


def _row(module: nn.Module, macs: int) -> Array:
    row = np.zeros(len(NAMES))
    grouped = int(getattr(module, "groups", 1) > 1)
    channels = (getattr(module, "in_channels", 0), getattr(module, "out_channels", 0))
    row[grouped] = macs
    row[2 + grouped] = macs if any(channel % ALIGNMENT for channel in channels) else 0
    row[6] = macs > 0
    return row


def _within(path: str, roots: Sequence[str]) -> bool:
    return any(not root or path == root or path.startswith(f"{root}.") for root in roots)
