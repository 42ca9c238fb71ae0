"""What is alive in a network, and what share of the fully connected one that costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from automl_nas.space import Architecture, SearchSpace, Subset
from automl_nas_dso.edges import Block, Cost, EdgeSpace

MEASURES = ("edges", "flops", "memory_access")


@dataclass(frozen=True)
class Life:
    """What of a network is alive.

    Attributes:
        edges: live edges, each block's counted (tied ones many times); as many as decisions take where blocks are not
            known.
        shares: ``edges``, and where blocks are known ``flops`` and ``memory_access``, of the fully connected blocks'.
        bare: the paths of blocks of which nothing is left but the shortcut.
        bare_stages: the paths of stages all of whose blocks are bare.
        empty: whether nothing is alive that may die.
    """

    edges: int
    shares: Mapping[str, float]
    bare: tuple[str, ...]
    bare_stages: tuple[str, ...]
    empty: bool


@final
class LiveStructure:
    """Counts what is alive.

    Args:
        space: an `EdgeSpace` knows its blocks and what they cost; of others the edges are counted.

    Attributes:
        blocks: of an `EdgeSpace`, otherwise none.
        full: the architecture with all edges.
        total: edges when all are alive.
        measures: what `life` gives shares of.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.blocks: tuple[Block, ...] = space.blocks if isinstance(space, EdgeSpace) else ()
        self.full = space.validate({name: decision.options for name, decision in space.decisions.items()})
        self._full = [block.full_cost for block in self.blocks]
        self._optional = [_optional(block, space) for block in self.blocks]
        self.total = 1
        whole = self.life(self.full)
        self.total, self.measures = whole.edges, tuple(whole.shares)

    def live(self, values: Mapping[str, object]) -> Architecture:
        """Return the architecture without the edges that lead to or come from dead operations."""
        return self._space.canonical(self._space.validate(values))

    def life(self, live: Architecture) -> Life:
        """Measure what `live` returned."""
        if not self.blocks:
            edges = sum(len(value) for value in live.values() if isinstance(value, tuple))
            return Life(edges, {"edges": edges / self.total}, (), (), not edges)
        costs: list[Cost] = []
        bare: list[str] = []
        stages: dict[str, bool] = {}
        edges = 0
        for block, optional in zip(self.blocks, self._optional, strict=True):
            alive = block.live(live)
            costs.append(block.cost(alive))
            edges += sum(len(sources) for target, sources in alive.items() if target in block.decisions)
            if optional:
                stage = block.path.rpartition(".")[0]
                stages[stage] = stages.get(stage, True) and not alive
                bare += [] if alive else [block.path]
        shares = {
            "edges": edges / self.total,
            "flops": _share([c.flops for c in costs], [c.flops for c in self._full]),
            "memory_access": _share([c.memory_access for c in costs], [c.memory_access for c in self._full]),
        }
        dead = tuple(stage for stage, empty in stages.items() if empty and stage)
        return Life(edges, shares, tuple(bare), dead, len(bare) == sum(self._optional))

    def costs(self, live: Architecture) -> list[tuple[Cost, Cost]]:
        """Return what each block costs, and what it costs fully connected."""
        return [(block.cost(block.live(live)), full) for block, full in zip(self.blocks, self._full, strict=True)]


def _optional(block: Block, space: SearchSpace) -> bool:
    """Whether nothing may be left of a block: a reduction always keeps a branch."""
    decision = space.decisions.get(block.decisions.get("output", ""))
    return isinstance(decision, Subset) and decision.min == 0


def _share(parts: list[int], wholes: list[int]) -> float:
    return sum(parts) / max(sum(wholes), 1)
