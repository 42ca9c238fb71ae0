"""The live edges of a network, and their share of the cost of the fully connected network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from automl_nas.space import Architecture, SearchSpace, Subset
from automl_nas_dso.space import Block, Cost, EdgeSpace

MEASURES = ("edges", "flops", "memory_access")


@dataclass(frozen=True)
class LiveShares:
    """The live part of a network.

    Attributes:
        edges: number of live edges, summed over blocks (a tied edge counts once for each block); in a space that is
            not an `EdgeSpace`, summed over decisions.
        shares: measure -> live share of the fully connected blocks, 0 to 1: ``edges``, and in an `EdgeSpace` also
            ``flops`` and ``memory_access``.
        shortcut_only: the paths of blocks without a live edge, which compute their shortcut only.
        shortcut_only_stages: the paths of stages all of whose blocks are in ``shortcut_only``.
        empty: whether every block that may lose all edges has lost them.
    """

    edges: int
    shares: Mapping[str, float]
    shortcut_only: tuple[str, ...]
    shortcut_only_stages: tuple[str, ...]
    empty: bool


@final
class LiveStructure:
    """Counts the live edges of architectures and their costs.

    Args:
        space: the costs are those of the blocks of an `EdgeSpace`; in other spaces only edges are counted.

    Attributes:
        blocks: the blocks of an `EdgeSpace`; empty for other spaces.
        full: the architecture with all edges.
        total: number of edges of ``full``.
        measures: the measures of `LiveShares.shares`.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.blocks: tuple[Block, ...] = space.blocks if isinstance(space, EdgeSpace) else ()
        self.full = space.validate({name: decision.options for name, decision in space.decisions.items()})
        self._full = [block.full_cost for block in self.blocks]
        self._optional = [_optional(block, space) for block in self.blocks]
        self.total = 1
        whole = self.count(self.full)
        self.total, self.measures = whole.edges, tuple(whole.shares)

    def live(self, values: Mapping[str, object]) -> Architecture:
        """Return the canonical architecture: without edges into or out of dead operations."""
        return self._space.canonical(self._space.validate(values))

    def count(self, live: Architecture) -> LiveShares:
        """Count the edges and costs of an architecture that `live` returned."""
        if not self.blocks:
            edges = sum(len(value) for value in live.values() if isinstance(value, tuple))
            return LiveShares(edges, {"edges": edges / self.total}, (), (), not edges)
        costs: list[Cost] = []
        shortcut_only: list[str] = []
        stages: dict[str, bool] = {}
        edges = 0
        for block, optional in zip(self.blocks, self._optional, strict=True):
            alive = block.live(live)
            costs.append(block.cost(alive))
            edges += sum(len(sources) for target, sources in alive.items() if target in block.decisions)
            if optional:
                stage = block.path.rpartition(".")[0]
                stages[stage] = stages.get(stage, True) and not alive
                shortcut_only += [] if alive else [block.path]
        shares = {
            "edges": edges / self.total,
            "flops": _share([c.flops for c in costs], [c.flops for c in self._full]),
            "memory_access": _share([c.memory_access for c in costs], [c.memory_access for c in self._full]),
        }
        dead = tuple(stage for stage, empty in stages.items() if empty and stage)
        return LiveShares(edges, shares, tuple(shortcut_only), dead, len(shortcut_only) == sum(self._optional))

    def costs(self, live: Architecture) -> list[tuple[Cost, Cost]]:
        """Return for each block its live cost and its fully connected cost."""
        return [(block.cost(block.live(live)), full) for block, full in zip(self.blocks, self._full, strict=True)]


def _optional(block: Block, space: SearchSpace) -> bool:
    """Whether a block may lose all edges; a reduction always keeps a branch."""
    decision = space.decisions.get(block.decisions.get("output", ""))
    return isinstance(decision, Subset) and decision.min == 0


def _share(parts: list[int], wholes: list[int]) -> float:
    return sum(parts) / max(sum(wholes), 1)
