"""Blocks whose edges are searched, as plain data: what each edge leads to, and what that costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import cast

from automl_nas.space import OUTPUT, DagGraph, Selection, SupernetSpace, Weighted


@dataclass(frozen=True)
class Cost:
    """What something costs for one image.

    Attributes:
        flops: multiply-adds of convolutions.
        memory_access: MAC, elements moved: ``h w (c1 + c2) + weights`` for a convolution (ShuffleNetV2, guideline 1).
    """

    flops: int
    memory_access: int


@dataclass(frozen=True)
class Edge:
    """An edge of a block.

    Attributes:
        block: which of the space's ``blocks``.
        decision: the name of its decision; several blocks have the same when decisions are tied. None: not searched.
        target: the node it leads to, or ``output``.
        source: the node it comes from, or ``input``; the option of the decision.
        operation: what it leads to: the kind of the operation, or ``output``.
        cost: of the operation it leads to (which is paid once, however many edges lead there); for an edge to
            ``output`` its own.
    """

    block: int
    decision: str | None
    target: str
    source: str
    operation: str
    cost: Cost


@dataclass(frozen=True)
class Block:
    """A block: operations that read the input and each other, and an output that adds up what they give.

    Attributes:
        path: of the module in the supernet, e.g. ``stage1.block2``.
        sources: target (each node in order, then ``output``) -> its possible sources.
        decisions: target -> the name of its decision; targets that take all their sources unasked are missing.
        operations: node -> the kind of its operation, e.g. ``sep3``.
        costs: node -> what its operation costs.
        output: source of ``output`` -> what that edge costs: its slice of the 1x1 convolution. In a reduction, whose
            branches are simply added up, the edge stands for the branch and has the whole cost.
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
        """The nodes, level after level: none reads a node of its own level."""
        return self._graph.levels

    def live(self, selection: Selection) -> dict[str, tuple[str, ...]]:
        """Return the live targets with their live sources; see `DagGraph.live`. Empty: the bare shortcut.

        Args:
            selection: for every decision a value, e.g. an architecture, or a `Weighted`, whose value counts and not its
                tensor. A decision that is missing (since `restrict` emptied it) takes nothing.
        """
        return self._graph.live({target: self._taken(target, selection) for target in self.sources})

    def _taken(self, target: str, selection: Selection) -> tuple[str, ...]:
        name = self.decisions.get(target)
        if name is None:
            return self.sources[target]
        given = selection.get(name, ())
        value = given.value if isinstance(given, Weighted) else given
        assert isinstance(value, tuple)
        return cast("tuple[str, ...]", value)

    def cost(self, live: Mapping[str, Sequence[str]]) -> Cost:
        """Return the cost of what is alive, each operation once; what never dies (the shortcut) is not counted.

        Args:
            live: what `live` returned.
        """
        parts = [self.costs[node] for node in live if node != OUTPUT]
        parts += [self.output[source] for source in live.get(OUTPUT, ())]
        return Cost(sum(part.flops for part in parts), sum(part.memory_access for part in parts))

    @property
    def full_cost(self) -> Cost:
        """The cost with every edge alive."""
        return self.cost(self._graph.live(self.sources))


class EdgeSpace(SupernetSpace, ABC):
    """A search space whose decisions are the edges of blocks: each is a `Subset` of what a target reads."""

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
