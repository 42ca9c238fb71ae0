"""The positions of the operations and edges of a block in a picture: a layered drawing (Sugiyama et al. 1981)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from automl_nas_dso.space import Block

INPUT, OUTPUT = "input", "output"
BOX = 66.0
"""Width of a box; all lengths in this module are in pixels."""
SPREAD = 84.0
"""Distance between two columns of boxes: space for curves and numbers."""
PORT = 13.0
"""Distance between two edges that end at the same box."""
_LOWEST, _LANE, _GAP = 32.0, 5.0, 12.0
_SWEEPS = 12

Item: TypeAlias = tuple[str, int]
"""A source and a column: the box of the source or, in a later column, the lane through which its edges pass."""


@dataclass(frozen=True)
class Drawing:
    """The positions of all boxes and edges.

    Attributes:
        live: target -> live sources.
        columns: for each column, from the input to the output, its boxes and lanes from top to bottom.
        column: name of a box -> its column.
        middle: box or lane -> the vertical position of its middle.
        tall: box or lane -> its height.
        width: of the picture.
        height: of the picture.
    """

    live: Mapping[str, tuple[str, ...]]
    columns: Sequence[Sequence[Item]]
    column: Mapping[str, int]
    middle: Mapping[Item, float] = field(default_factory=dict)
    tall: Mapping[Item, float] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0

    def left(self, column: int) -> float:
        """Return the horizontal position of the left side of the boxes of a column."""
        return column * (BOX + SPREAD)

    def box(self, name: str) -> Item:
        """Return the box of a node, of ``input`` or of ``output``."""
        return name, self.column[name]

    def before(self, source: str, target: str) -> Item:
        """Return the last box or lane of an edge before its target."""
        return source, self.column[target] - 1

    def ports(self, target: str) -> dict[str, float]:
        """Return live source -> vertical position of the end of its edge at a target; the edges do not cross."""
        sources = sorted(self.live.get(target, ()), key=lambda source: self.middle[self.before(source, target)])
        top = self.middle[self.box(target)] - PORT * (len(sources) - 1) / 2
        return {source: top + PORT * number for number, source in enumerate(sources)}


def arrange(block: Block, live: Mapping[str, tuple[str, ...]]) -> Drawing:
    """Return the drawing of the live part of a block.

    Args:
        block: its levels are the columns; empty levels are omitted.
        live: the return value of `Block.live`.
    """
    levels = [[node for node in level if node in live] for level in block.levels]
    boxes = [[INPUT], *(level for level in levels if level), [OUTPUT]]
    column = {name: number for number, names in enumerate(boxes) for name in names}
    last: dict[str, int] = {}
    for target, sources in live.items():
        for source in sources:
            last[source] = max(last.get(source, 0), column[target])
    columns: list[list[Item]] = [[(name, number) for name in names] for number, names in enumerate(boxes)]
    for source, end in last.items():
        for number in range(column[source] + 1, end):
            columns[number].append((source, number))
    drawing = Drawing(live, columns, column)
    columns = _order(drawing)
    tall = {
        item: max(_LOWEST, PORT * len(live.get(item[0], ())) + 6) if column[item[0]] == item[1] else _LANE
        for items in columns
        for item in items
    }
    heights = [sum(tall[item] + _GAP for item in items) - _GAP for items in columns]
    height = max(heights)
    middle = {}
    for items, own in zip(columns, heights, strict=True):
        y = (height - own) / 2
        for item in items:
            middle[item] = y + tall[item] / 2
            y += tall[item] + _GAP
    width = drawing.left(len(columns) - 1) + BOX
    return Drawing(live, columns, column, middle, tall, width, height)


def _links(drawing: Drawing) -> Iterator[tuple[Item, Item]]:
    """Yield the piece of each edge between two adjacent columns; a piece that several edges share is yielded once."""
    seen = set()
    for target, sources in drawing.live.items():
        for source in sources:
            for number in range(drawing.column[source], drawing.column[target]):
                end = drawing.box(target) if number + 1 == drawing.column[target] else (source, number + 1)
                if ((source, number), end) not in seen:
                    seen.add(((source, number), end))
                    yield (source, number), end


def _order(drawing: Drawing) -> list[list[Item]]:
    """Sort columns by the mean position of neighbours, alternately forward and backward; return the best order.

    The best order is the one with the fewest crossings (barycentre heuristic).
    """
    links = list(_links(drawing))
    columns = [list(items) for items in drawing.columns]
    best, fewest = columns, _crossings(columns, links)
    for sweep in range(_SWEEPS):
        forward = sweep % 2 == 0
        order = range(1, len(columns)) if forward else range(len(columns) - 2, -1, -1)
        columns = [list(items) for items in columns]
        for number in order:
            place = {item: spot for spot, item in enumerate(columns[number - 1 if forward else number + 1])}
            means = {}
            for spot, item in enumerate(columns[number]):
                near = (
                    [place[a] for a, b in links if b == item] if forward else [place[b] for a, b in links if a == item]
                )
                means[item] = sum(near) / len(near) if near else float(spot)
            columns[number].sort(key=lambda item: means[item])
        crossings = _crossings(columns, links)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _crossings(columns: Sequence[Sequence[Item]], links: Sequence[tuple[Item, Item]]) -> int:
    place = {item: spot for items in columns for spot, item in enumerate(items)}
    total = 0
    for number in range(len(columns) - 1):
        pairs = sorted((place[a], place[b]) for a, b in links if a[1] == number)
        total += sum(
            one[0] < other[0] and one[1] > other[1] for spot, one in enumerate(pairs) for other in pairs[spot + 1 :]
        )
    return total
