"""Pictures of the blocks of an architecture as SVG: operations, live edges, lambda."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from automl_nas.space import Selection, Weighted
from automl_nas_dso.picture.layered_layout import BOX, INPUT, OUTPUT, SPREAD, Drawing, arrange
from automl_nas_dso.space import Block, EdgeSpace

_MARGIN, _TITLE, _FOOT = 16.0, 44.0, 34.0
# Fill and line colour of the boxes of each family of operations; edges have the line colour of their source.
_FAMILIES = {
    "sep": ("#dbe9f6", "#2b6ca3"),
    "dil": ("#dcefec", "#1f7a6d"),
    "conv": ("#f6e3d3", "#b5602a"),
    "avg": ("#e7e3f4", "#6a51a3"),
    "max": ("#f5dfe8", "#b03a6f"),
}
_OTHER = ("#eeeeee", "#666666")
_STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;fill:#222}"
    ".name{font-size:13px;text-anchor:middle}.title{font-size:15px;font-weight:bold}.note{font-size:11px;fill:#555}"
    ".lambda{font-size:10px;text-anchor:end}"
    ".edge,.shortcut{fill:none}"
)


def pictures(space: EdgeSpace, selection: Selection) -> dict[str, str]:
    """Return name -> SVG, one picture for each distinct block (blocks with tied decisions have one picture).

    Args:
        space: the space of the architecture.
        selection: an architecture, or `Weighted` live edges with lambda, which is then written next to the edges.
    """
    by_decisions: dict[tuple[str, ...], tuple[str, str]] = {}
    for block in space.blocks:
        names = tuple(block.decisions.values())
        # The picture of tied blocks has the common prefix of their decisions as its name.
        prefixes = {name.rpartition(".")[0] for name in names}
        title = prefixes.pop() if len(prefixes) == 1 else block.path
        by_decisions.setdefault(names, (title, block_picture(block, selection, title=title)))
    return dict(by_decisions.values())


def block_picture(block: Block, selection: Selection, *, title: str | None = None) -> str:
    """Return the picture of one block as SVG.

    Levels are drawn from left to right. An edge has the colour of its source operation, a width proportional to
    ``|lambda|`` (relative to the largest in the block), and dashes if lambda is negative. Dead operations and edges are
    not drawn.

    Args:
        block: a block of the space.
        selection: see `pictures`; decisions of other blocks are ignored.
        title: the title of the picture; None: the block's path.
    """
    live = block.live(selection)
    drawing = arrange(block, live)
    lambdas = _lambdas(block, selection, live)
    searched = sum(len(block.sources[target]) for target in block.decisions)
    alive = sum(len(sources) for target, sources in live.items() if target in block.decisions)
    note = f"{len(live.keys() - {OUTPUT})} of {len(block.operations)} operations, {alive} of {searched} edges"
    reduces = block.path.endswith("reduction")
    width, height = drawing.width + 2 * _MARGIN, drawing.height + _TITLE + _MARGIN + (0 if reduces else _FOOT)
    largest = max((abs(value) for value in lambdas.values()), default=1.0) or 1.0
    edges = [
        _edge(drawing, source, target, _colours(block, source)[1], lambdas.get((source, target)), largest)
        for target, sources in live.items()
        for source in sources
    ]
    labels = [
        _label(drawing, target, y, lambdas[source, target])
        for target in live
        for source, y in drawing.ports(target).items()
        if (source, target) in lambdas
    ]
    boxes = [_box(drawing, name, block) for name in drawing.column]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}">',
            f"<style>{_STYLE}</style>",
            f'<rect width="{width:g}" height="{height:g}" fill="#fff"/>',
            f'<text class="title" x="{_MARGIN:g}" y="20">{escape(title or block.path)}</text>',
            f'<text class="note" x="{_MARGIN:g}" y="36">{escape(note)}</text>',
            f'<g transform="translate({_MARGIN:g} {_TITLE:g})">',
            *([] if reduces else [_shortcut(drawing)]),
            *edges,
            *boxes,
            *labels,
            "</g>",
            "</svg>",
            "",
        ]
    )


def _lambdas(block: Block, selection: Selection, live: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, str], float]:
    lambdas: dict[tuple[str, str], float] = {}
    for target, sources in live.items():
        value = selection.get(block.decisions[target]) if target in block.decisions else None
        if isinstance(value, Weighted):
            values = dict(zip(value.options, value.tensor.detach().reshape(-1).tolist(), strict=True))
            lambdas |= {(source, target): float(values[source]) for source in sources}
    return lambdas


def _colours(block: Block, name: str) -> tuple[str, str]:
    kind = block.operations.get(name, "").rstrip("0123456789")
    return _FAMILIES.get(kind, _OTHER)


def _edge(drawing: Drawing, source: str, target: str, colour: str, value: float | None, largest: float) -> str:
    column, end = drawing.column[source], drawing.column[target]
    x, y = drawing.left(column) + BOX, drawing.middle[drawing.box(source)]
    path = [f"M{x:g} {y:.1f}"]
    for number in range(column + 1, end):
        lane = drawing.middle[source, number]
        path += [_curve(x, y, drawing.left(number), lane), f"H{drawing.left(number) + BOX:g}"]
        x, y = drawing.left(number) + BOX, lane
    path.append(_curve(x, y, drawing.left(end), drawing.ports(target)[source]))
    thick = 1.5 if value is None else 0.8 + 2.4 * abs(value) / largest
    dashes = ' stroke-dasharray="5 3"' if value is not None and value < 0 else ""
    number_ = "" if value is None else f' data-lambda="{value:.6g}"'
    return (
        f'<path class="edge" data-source={quoteattr(source)} data-target={quoteattr(target)}{number_} '
        f'd="{"".join(path)}" stroke="{colour}" stroke-opacity="0.75" stroke-width="{thick:.2f}"{dashes}/>'
    )


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    # Horizontal at both ends, so that pieces join smoothly; the last part is straight, next to the number of the edge.
    middle = x + 0.4 * (to_x - x)
    flat = to_x - 0.42 * SPREAD
    return f"C{middle:.1f} {y:.1f} {middle:.1f} {to_y:.1f} {flat:.1f} {to_y:.1f}H{to_x:g}"


def _label(drawing: Drawing, target: str, y: float, value: float) -> str:
    x = drawing.left(drawing.column[target]) - 6
    text = f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.0e}"
    # A white background behind the digits, which are about 5.6 pixels wide each.
    wide = 5.6 * len(text) + 3
    return (
        f'<rect x="{x - wide + 1.5:g}" y="{y - 5.5:.1f}" width="{wide:g}" height="11" fill="#fff" fill-opacity="0.9"/>'
        f'<text class="lambda" x="{x:g}" y="{y + 3.5:.1f}">{text}</text>'
    )


def _box(drawing: Drawing, name: str, block: Block) -> str:
    fill, line = _colours(block, name)
    item = drawing.box(name)
    tall, x = drawing.tall[item], drawing.left(drawing.column[name])
    y = drawing.middle[item] - tall / 2
    return (
        f'<g class="node" data-name={quoteattr(name)}><title>{escape(name)}</title>'
        f'<rect x="{x:g}" y="{y:.1f}" width="{BOX:g}" height="{tall:g}" rx="6" fill="{fill}" stroke="{line}"/>'
        f'<text class="name" x="{x + BOX / 2:g}" y="{y + tall / 2 + 4.5:.1f}">'
        f"{escape(block.operations.get(name, name))}</text></g>"
    )


def _shortcut(drawing: Drawing) -> str:
    start, end = (drawing.left(drawing.column[name]) + BOX / 2 for name in (INPUT, OUTPUT))
    top, other = (drawing.middle[item] + drawing.tall[item] / 2 for item in map(drawing.box, (INPUT, OUTPUT)))
    low = drawing.height + 14
    return (
        f'<path class="shortcut" d="M{start:g} {top:.1f}V{low - 8:.1f}Q{start:g} {low:.1f} {start + 8:g} {low:.1f}'
        f'H{end - 8:g}Q{end:g} {low:.1f} {end:g} {low - 8:.1f}V{other:.1f}" stroke="#999" stroke-dasharray="2 3"/>'
        f'<text class="note" x="{(start + end) / 2:g}" y="{low + 14:.1f}" text-anchor="middle">shortcut</text>'
    )
