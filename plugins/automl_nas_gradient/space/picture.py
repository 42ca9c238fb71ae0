"""Pictures of derived cells as SVG."""

from __future__ import annotations

from xml.sax.saxutils import escape

from automl_nas_gradient.space.genotype import CellPlan, Genotype

_BOX, _GAP, _ROW, _MARGIN, _TITLE = (74.0, 30.0), 150.0, 84.0, 20.0, 40.0
_COLOURS = {"sep": "#2b6ca3", "dil": "#1f7a6d", "max": "#b03a6f", "avg": "#6a51a3", "skip": "#666666"}
_STYLE = (
    "text{font-family:Helvetica,Arial,sans-serif;fill:#222;font-size:12px;text-anchor:middle}"
    ".title{font-size:15px;font-weight:bold;text-anchor:start}.label{font-size:10px}"
    "rect{fill:#f4f4f4;stroke:#666}path{fill:none;stroke-width:1.6}"
)


def cell_pictures(genotype: Genotype) -> dict[str, str]:
    """Return ``normal`` and ``reduce`` -> SVG."""
    return {"normal": cell_picture(genotype.normal, "normal"), "reduce": cell_picture(genotype.reduce, "reduce")}


def cell_picture(plan: CellPlan, title: str) -> str:
    """Return a picture of a cell: states from left to right, and the operation of each edge in its own colour.

    Args:
        plan: the cell.
        title: the heading.
    """
    places = _places(plan)
    columns = max(column for column, _ in places.values())
    rows = max(row for _, row in places.values()) + 1
    width = 2 * _MARGIN + columns * _GAP + _BOX[0]
    height = _TITLE + rows * _ROW + _MARGIN
    parts = [f'<text class="title" x="{_MARGIN}" y="24">{escape(title)}</text>']
    output = len(plan.nodes) + 2
    for node, inputs in enumerate(plan.nodes, start=2):
        for position, (operation, source) in enumerate(inputs):
            colour = next((c for name, c in _COLOURS.items() if operation.startswith(name)), "#b5602a")
            parts.append(_edge(places[source], places[node], operation, colour, position, len(inputs)))
    parts += [_edge(places[state], places[output], "", "#bbbbbb", 0, 1) for state in plan.output]
    names = {0: "cell k-2", 1: "cell k-1", output: "output"}
    for state, place in places.items():
        x, y = _corner(place)
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{_BOX[0]}" height="{_BOX[1]}" rx="5"/>')
        label = names.get(state, f"node {state}")
        parts.append(f'<text x="{x + _BOX[0] / 2:.1f}" y="{y + 19:.1f}">{escape(label)}</text>')
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{"".join(parts)}</svg>\n'


def _places(plan: CellPlan) -> dict[int, tuple[int, int]]:
    """Return the column of each state, one more than that of its last source, and its row in the column."""
    columns = {0: 0, 1: 0}
    for node, inputs in enumerate(plan.nodes, start=2):
        columns[node] = 1 + max(columns[source] for _, source in inputs)
    columns[len(plan.nodes) + 2] = 1 + max(columns.values())
    rows: dict[int, int] = {}
    places: dict[int, tuple[int, int]] = {}
    for state, column in columns.items():
        places[state] = column, rows.get(column, 0)
        rows[column] = rows.get(column, 0) + 1
    return places


def _corner(place: tuple[int, int]) -> tuple[float, float]:
    column, row = place
    # Columns are shifted against each other, so that edges over several columns do not run through boxes.
    return _MARGIN + column * _GAP, _TITLE + row * _ROW + (column % 3) * 16.0


def _edge(start: tuple[int, int], end: tuple[int, int], label: str, colour: str, position: int, count: int) -> str:
    x1, y1 = _corner(start)
    x2, y2 = _corner(end)
    x1, y1 = x1 + _BOX[0], y1 + _BOX[1] / 2
    y2 += _BOX[1] * (position + 1) / (count + 1)
    middle = (x1 + x2) / 2
    curve = f"M{x1:.1f} {y1:.1f} C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    path = f'<path d="{curve}" stroke="{colour}"/>'
    if not label:
        return path
    at = f'x="{x2 - 34:.1f}" y="{y2 - 4 + 12 * position:.1f}"'
    return f'{path}<text class="label" style="fill:{colour}" {at}>{escape(label)}</text>'
