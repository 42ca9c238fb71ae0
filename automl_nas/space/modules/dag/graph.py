"""Which nodes and edges of a directed acyclic graph are live: plain data, no tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from automl_nas.errors import SpaceError, did_you_mean

INPUT = "input"
OUTPUT = "output"


class DagGraph:
    """The edges that a `Dag` may have.

    Args:
        nodes: the names of its operations.
        edges: target (a node or ``output``) -> its possible sources (nodes or ``input``).

    Raises:
        SpaceError: an unknown or reserved name, a source named twice, a target without sources, or a cycle.
    """

    def __init__(self, nodes: Iterable[str], edges: Mapping[str, Sequence[str]]) -> None:
        names = tuple(nodes)
        for reserved in (INPUT, OUTPUT):
            if reserved in names:
                raise SpaceError(
                    f"a node of a Dag cannot be called '{reserved}': that name is the Dag's own {reserved}; rename it"
                )
        for target in edges:
            if target != OUTPUT and target not in names:
                hint = did_you_mean(target, (*names, OUTPUT))
                raise SpaceError(f"edges lead to '{target}', which is not a node{hint}")
        for target in (*names, OUTPUT):
            sources = edges.get(target, ())
            if not sources:
                raise SpaceError(f"no edge leads to '{target}'; edges['{target}'] needs at least one source")
            for source in sources:
                if source != INPUT and source not in names:
                    hint = did_you_mean(source, (*names, INPUT))
                    raise SpaceError(f"an edge to '{target}' comes from '{source}', which is not a node{hint}")
            if len(set(sources)) != len(sources):
                raise SpaceError(f"the edges to '{target}' name a source twice: {list(sources)}")
        self.sources = {target: tuple(edges[target]) for target in (*names, OUTPUT)}
        self.levels = self._levels(names)

    def _levels(self, names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        level = {INPUT: 0}
        while len(level) <= len(names):
            ready = [
                name for name in names if name not in level and all(source in level for source in self.sources[name])
            ]
            if not ready:
                cycle = ", ".join(f"'{name}'" for name in names if name not in level)
                raise SpaceError(
                    f"the edges of a Dag must not form a cycle; these nodes are in a cycle or behind one: {cycle}"
                )
            for name in ready:
                level[name] = 1 + max(level[source] for source in self.sources[name])
        depth = max(level.values())
        return tuple(tuple(name for name in names if level[name] == number) for number in range(1, depth + 1))

    def live(self, selected: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        """Return the live targets with their live sources, in the order of evaluation.

        A node is live if a path of selected edges leads from the input to it, and another from it to the output; a
        selected edge is live if both its ends are. ``output`` is missing from the result when no path reaches it.

        Args:
            selected: target -> its selected sources, for every node and ``output``; their order is kept.
        """
        reached = {INPUT}
        for level in self.levels:
            for node in level:
                if not reached.isdisjoint(selected[node]):
                    reached.add(node)
        sources = {target: tuple(source for source in selected[target] if source in reached) for target in self.sources}
        needed = set(sources[OUTPUT])
        order = [node for level in self.levels for node in level]
        for node in reversed(order):
            if node in needed:
                needed.update(sources[node])
        live = {node: sources[node] for node in order if node in needed}
        if sources[OUTPUT]:
            live[OUTPUT] = sources[OUTPUT]
        return live
