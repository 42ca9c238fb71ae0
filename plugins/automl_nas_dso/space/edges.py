"""Blocks whose edges are searched, as plain data: the operations and costs of each edge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from automl_nas.space import OUTPUT, DagGraph, Selection, SupernetSpace, Weighted


@dataclass(frozen=True)
class Cost:
    """The cost of an operation, edge or block for one image.

    Attributes:
        flops: multiply-adds of convolutions.
        memory_access: MAC, the number of elements read and written: ``h w (c1 + c2) + weights`` for a convolution
            (ShuffleNetV2, guideline 1).
    """

    flops: int
    memory_access: int


@dataclass(frozen=True)
class Edge:
    """An edge of a block.

    Attributes:
        block: index of its block in the space's ``blocks``.
        decision: name of its decision; blocks with tied decisions have the same name. None: the edge is not searched.
        target: the node it leads to, or ``output``.
        source: the node it comes from, or ``input``; an option of the decision.
        operation: the kind of the target's operation, e.g. ``sep3``, or ``output``.
        cost: the cost of the target's operation (which counts once, also if several edges lead to it); for an edge to
            ``output`` the cost of the edge itself.
    """

    block: int
    decision: str | None
    target: str
    source: str
    operation: str
    cost: Cost


@dataclass(frozen=True)
class Block:
    """A block: operations that read the input and each other, and an output that combines their results.

    Attributes:
        path: path of its module in the supernet, e.g. ``stage1.block2``.
        sources: target (each node in order, then ``output``) -> its possible sources.
        decisions: target -> the name of its decision; targets whose sources are fixed are omitted.
        operations: node -> the kind of its operation, e.g. ``sep3``.
        costs: node -> the cost of its operation.
        output: source of ``output`` -> the cost of that edge: its slice of the 1x1 convolution. In a reduction, whose
            branches are added, the edge has the cost of its whole branch.
    """

    path: str
    sources: Mapping[str, tuple[str, ...]]
    decisions: Mapping[str, str]
    operations: Mapping[str, str]
    costs: Mapping[str, Cost]
    output: Mapping[str, Cost]
    _graph: DagGraph = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        for name in ("sources", "decisions", "operations", "costs", "output"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "_graph", DagGraph(self.operations, self.sources))

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The nodes, level after level; a node reads nodes of earlier levels only."""
        return self._graph.levels

    def live(self, selection: Selection) -> dict[str, tuple[str, ...]]:
        """Return the live targets with their live sources; see `DagGraph.live`. Empty: only the shortcut is left.

        Args:
            selection: for each decision a value, e.g. an architecture, or a `Weighted`, of which only the value is
                used. A missing decision (`restrict` removed all its options) has no source.
        """
        return self._graph.live({target: self._selected(target, selection) for target in self.sources})

    def _selected(self, target: str, selection: Selection) -> tuple[str, ...]:
        name = self.decisions.get(target)
        if name is None:
            return self.sources[target]
        selected = selection.get(name, ())
        value = selected.value if isinstance(selected, Weighted) else selected
        assert isinstance(value, tuple)
        return cast("tuple[str, ...]", value)

    def cost(self, live: Mapping[str, Sequence[str]]) -> Cost:
        """Return the cost of the live operations, each counted once; the shortcut, which cannot die, is not counted.

        Args:
            live: the return value of `live`.
        """
        parts = [self.costs[node] for node in live if node != OUTPUT]
        parts += [self.output[source] for source in live.get(OUTPUT, ())]
        return Cost(sum(part.flops for part in parts), sum(part.memory_access for part in parts))

    @property
    def full_cost(self) -> Cost:
        """The cost with every edge alive."""
        return self.cost(self._graph.live(self.sources))


class EdgeSpace(SupernetSpace, ABC):
    """A search space whose decisions are the edges of blocks: each is a `Subset` of the sources of a target."""

    @property
    @abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """The blocks with searched edges, in the order of the network."""

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Every searched edge of every block: blocks in order, targets in order, sources in order."""
        return tuple(
            Edge(
                number,
                block.decisions[target],
                target,
                source,
                block.operations.get(target, OUTPUT),
                block.output[source] if target == OUTPUT else block.costs[target],
            )
            for number, block in enumerate(self.blocks)
            for target, sources in block.sources.items()
            if target in block.decisions
            for source in sources
        )
