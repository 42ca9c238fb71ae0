"""Draw the figures of the concepts and of the results as SVG files.

Usage::

    python docs/draw_figures.py           # writes docs/concepts/*.svg and docs/results/*.svg
    python docs/draw_figures.py --check   # exits with 1 if a file differs from what would be drawn

Each figure has a light background of its own, so that it can be read on light and on dark pages.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).parent
INK, MUTED, LINE = "#1f2430", "#5b6475", "#8a93a5"
BLUE, GREEN, ORANGE, GREY, RED, WHITE = "#dbe7fb", "#dcf1e0", "#fdebd2", "#eceff4", "#f9d9d6", "#ffffff"
"""Fills: computation, files, configuration, not active, interruption, plain."""


class Figure:
    """An SVG image that is put together from boxes, arrows and labels; all lengths are in pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.width, self.height, self.title = width, height, title
        self.parts: list[str] = []

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        lines: Sequence[str] = (),
        *,
        fill: str = WHITE,
        dashed: bool = False,
        top: bool = False,
    ) -> None:
        """Draw a box. The first line of text is bold; `top` puts the text at the top edge instead of the middle."""
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" '
            f'stroke="{LINE}"{dash}/>'
        )
        first = y + 20 if top else y + height / 2 - (len(lines) - 1) * 9 + 5
        for number, line in enumerate(lines):
            color = MUTED if dashed or number else INK
            self.text(
                x + width / 2, first + 18 * number, line, bold=number == 0, size=13 if number else 14, color=color
            )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 13,
        bold: bool = False,
        mono: bool = False,
        anchor: str = "middle",
        color: str = INK,
    ) -> None:
        """Write one line of text at its baseline."""
        weight = ' font-weight="600"' if bold else ""
        family = ' font-family="ui-monospace, Menlo, Consolas, monospace"' if mono else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{color}"{weight}{family}>'
            f"{escape(text)}</text>"
        )

    def arrow(
        self, *points: tuple[float, float], label: str = "", dx: float = 0, dy: float = -6, faint: bool = False
    ) -> None:
        """Draw an arrow through points. The label is centred between the first two points, moved by (dx, dy)."""
        path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="4 4"' if faint else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{LINE if faint else MUTED}" stroke-width="1.6"{dash} '
            'marker-end="url(#head)"/>'
        )
        if label:
            (x1, y1), (x2, y2) = points[0], points[1]
            self.text((x1 + x2) / 2 + dx, (y1 + y2) / 2 + dy, label, size=12, color=MUTED)

    def line(self, x1: float, y1: float, x2: float, y2: float, *, color: str = LINE, width: float = 1) -> None:
        """Draw a straight line."""
        self.parts.append(
            f'<path d="M{x1:g} {y1:g} L{x2:g} {y2:g}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'
        )

    def point(self, x: float, y: float, *, color: str = INK) -> None:
        """Draw a filled circle."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="{color}"/>')

    def svg(self) -> str:
        """Return the file's contents."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
            f'height="{self.height}" font-family="system-ui, Helvetica, Arial, sans-serif" role="img">'
        )
        arrow_head = (
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto"><path d="M0 0 L10 5 L0 10 z" fill="{MUTED}"/></marker></defs>'
        )
        background = (
            f'<rect x="0.5" y="0.5" width="{self.width - 1}" height="{self.height - 1}" rx="8" fill="#fbfcfe" '
            'stroke="#d4d9e2"/>'
        )
        return "\n".join(
            [head, f"<title>{escape(self.title)}</title>", arrow_head, background, *self.parts, "</svg>\n"]
        )


def pipeline() -> Figure:
    """The stages of a run, and what passes from one to the next."""
    figure = Figure(920, 430, "The pipeline of stages: configuration, plan, three stages, run directory")
    figure.box(20, 20, 190, 56, ["configuration", "YAML or Python"], fill=ORANGE)
    figure.box(300, 20, 210, 56, ["plan", "resolved and checked"], fill=ORANGE)
    figure.arrow((210, 48), (300, 48), label="resolve")
    figure.arrow((405, 76), (405, 108))
    figure.box(20, 108, 880, 176, ["driver: calls step until the strategy is done"], top=True, fill=GREY)
    figure.box(
        40, 146, 230, 118, ["stage “supernet”", "single_path trains", "the weights of all", "architectures"], fill=BLUE
    )
    figure.box(
        330,
        146,
        260,
        118,
        ["stage “search”", "evolution proposes (ask),", "the evaluator measures,", "evolution learns (tell)"],
        fill=BLUE,
    )
    figure.box(
        650, 146, 230, 118, ["stage “final”", "retrain the best beside", "baselines, test once,", "export"], fill=BLUE
    )
    figure.box(20, 338, 880, 72, fill=GREEN)
    figure.text(36, 358, "run directory", bold=True, anchor="start", size=14)
    figure.box(55, 366, 200, 34, ["artifacts/ (weights)"])
    figure.box(360, 366, 200, 34, ["trials.jsonl (ledger)"])
    figure.box(665, 366, 200, 34, ["result.json, export/"])
    figure.arrow((155, 264), (155, 366), label="saved once", dx=42, dy=-4)
    figure.arrow((230, 366), (230, 312), (390, 312), (390, 264), label="", dx=0)
    figure.text(312, 306, "inherited", size=12, color=MUTED)
    figure.arrow((480, 264), (480, 366), label="trials", dx=26, dy=-4)
    figure.arrow((540, 366), (540, 312), (700, 312), (700, 264))
    figure.text(622, 306, "best trials", size=12, color=MUTED)
    figure.arrow((785, 264), (785, 366), label="network", dx=34, dy=-4)
    return figure


def selections() -> Figure:
    """One choice of a supernet under the three kinds of selection."""
    figure = Figure(920, 390, "A supernet and a selection of each kind: value, tensor, Weighted")
    panels: list[tuple[str, str, Sequence[str | None], str, str]] = [
        ("a value", '{"layer": "conv5"}', (None, "", None), "one option runs, unweighted", "SPOS, ENAS, evolution"),
        (
            "a tensor",
            '{"layer": tensor([.2, .7, .1])}',
            ("0.2", "0.7", "0.1"),
            "all options run, each weighted",
            "DARTS",
        ),
        (
            "Weighted(value, tensor)",
            'Weighted(("conv3", "conv5"), w)',
            ("w[0]", "w[1]", None),
            "some options run, each weighted",
            "DSO-NAS, GDAS, ProxylessNAS",
        ),
    ]
    for number, (kind, code, weights, effect, users) in enumerate(panels):
        left = 20 + 300 * number
        figure.box(left, 20, 280, 350)
        figure.text(left + 140, 46, kind, bold=True, size=15)
        figure.text(left + 140, 68, code, mono=True, size=12, color=MUTED)
        figure.box(left + 14, 172, 36, 32, ["x"], fill=ORANGE)
        figure.box(left + 230, 172, 36, 32, ["y"], fill=ORANGE)
        for row, (option, weight) in enumerate(zip(("conv3", "conv5", "skip"), weights, strict=True)):
            y = 96 + 66 * row
            active = weight is not None
            figure.box(left + 92, y, 80, 52, [option], fill=BLUE if active else GREY, dashed=not active)
            if active:
                figure.arrow((left + 50, 188), (left + 92, y + 26))
                figure.arrow((left + 172, y + 26), (left + 230, 188))
                figure.text(left + 178, y + (18, 20, 46)[row], weight or "", anchor="start", size=12, color=MUTED)
        figure.text(left + 140, 322, effect, size=13)
        figure.text(left + 140, 346, users, size=12, color=MUTED)
    return figure


def survival() -> Figure:
    """A run that is killed, and how the resumed run reaches the same state."""
    figure = Figure(920, 420, "What survives a kill: ledger, checkpoint, replay")
    figure.text(20, 42, "first process", bold=True, anchor="start", size=14)
    figure.text(20, 384, "resumed process", bold=True, anchor="start", size=14)
    figure.box(20, 100, 880, 228, fill=GREEN)
    left, pitch, width = 150, 94, 78
    for step in range(1, 6):
        x = left + pitch * (step - 1)
        figure.box(x, 20, width, 40, [f"step {step}"], fill=BLUE)
        figure.arrow((x + width / 2, 60), (x + width / 2, 160))
    x_kill = left + pitch * 5
    figure.box(x_kill, 20, width, 40, ["killed"], fill=RED)
    figure.arrow((x_kill + width / 2, 60), (x_kill + width / 2, 160), faint=True)
    figure.text(36, 122, "run directory", bold=True, anchor="start", size=14)
    figure.text(36, 182, "trials.jsonl", bold=True, anchor="start")
    figure.text(36, 200, "the ledger", anchor="start", size=12, color=MUTED)
    for step in range(1, 6):
        figure.box(left + pitch * (step - 1), 160, width, 44, [f"trial {step - 1}", "recorded"])
    figure.box(x_kill, 160, width, 44, ["trial 5", "started"], dashed=True)
    figure.text(36, 262, "checkpoints/", bold=True, anchor="start")
    figure.text(36, 280, "save time only", anchor="start", size=12, color=MUTED)
    figure.box(left + pitch - 12, 244, width + 24, 44, ["checkpoint", "after step 2"], fill=ORANGE)
    figure.arrow((left + pitch + 39, 288), (left + pitch + 39, 358), label="load", dx=20, dy=-4)
    y = 358
    figure.box(left + pitch - 12, y, width + 24, 44, ["state", "after step 2"], fill=ORANGE)
    for step in range(3, 6):
        x = left + pitch * (step - 1)
        figure.box(x, y, width, 44, [f"step {step}", "replayed"], fill=GREY)
        figure.arrow((x + width / 2, 204), (x + width / 2, y))
    figure.text(left + pitch * 4 + 50, 250, "recorded trials answer by number:", anchor="start", size=12, color=MUTED)
    figure.text(left + pitch * 4 + 50, 268, "none of them is evaluated again", anchor="start", size=12, color=MUTED)
    figure.box(x_kill, y, width, 44, ["step 6", "again"], fill=BLUE)
    figure.box(x_kill + pitch, y, width, 44, ["step 7", "new"], fill=BLUE)
    return figure


def plugins() -> Figure:
    """From an entry point to a constructed component."""
    figure = Figure(920, 400, "How a plugin is found: entry point, hooks, registry, resolve")
    figure.text(20, 34, "when plugins are loaded", bold=True, anchor="start", size=14)
    figure.box(
        20,
        50,
        250,
        92,
        ["entry point", "pyproject.toml of a distribution:", "group automl_nas,", "climber = “my_climber”"],
        fill=ORANGE,
    )
    figure.box(
        335,
        50,
        250,
        92,
        ["hooks", "register_strategies(register)", "register(“climber”,", "“my_climber.climber:Climber”)"],
        fill=BLUE,
    )
    figure.box(
        650,
        50,
        250,
        92,
        ["registry", "(strategies, climber) →", "my_climber.climber:Climber,", "not imported yet"],
        fill=GREEN,
    )
    figure.arrow((270, 96), (335, 96), label="import", dy=-8)
    figure.arrow((585, 96), (650, 96), label="call", dy=-8)
    figure.text(20, 218, "when a configuration names the component", bold=True, anchor="start", size=14)
    figure.box(20, 236, 250, 92, ["configuration", "strategy:", "{name: climber, attempts: 100}"], fill=ORANGE)
    figure.box(
        335,
        236,
        250,
        92,
        ["signature", "before *: collaborators, by type", "after *: settings,", "with types and defaults"],
        fill=BLUE,
    )
    figure.box(650, 236, 250, 92, ["component", "Climber(space, problem,", "attempts=100, seed=...)"], fill=BLUE)
    figure.arrow((270, 282), (335, 282), label="resolve", dy=-8)
    figure.arrow((585, 282), (650, 282), label="construct", dy=-8)
    figure.arrow((775, 142), (775, 190), (460, 190), (460, 236))
    figure.text(617, 184, "import the class", size=12, color=MUTED)
    figure.text(
        460,
        364,
        "Settings are checked before the run starts; an error names the path, such as stages[0].strategy.attempts.",
        size=13,
        color=MUTED,
    )
    return figure


def architecture() -> Figure:
    """The packages of the core as layers, and the plugins beside them."""
    figure = Figure(960, 648, "The packages of automl_nas: layers, rooms and plugins")
    rows: list[tuple[str, str, Sequence[str], str]] = [
        ("cli", "the command line", (), GREY),
        ("testing", "contract tests and toys for plugin authors", (), GREY),
        ("run", "what drives a search and what survives it", ("configuration", "record", "trials", "final"), GREEN),
        ("plugin", "hooks, registry, signatures as schemas", (), ORANGE),
        ("strategy", "problem, trial, strategy: how a search advances", (), BLUE),
        ("evaluation", "task, runtime, evaluator: what a candidate is worth", ("training", "costs"), BLUE),
        ("channels", "which channels depend on each other; fewer of them", (), BLUE),
        ("space", "decisions, architectures, selections, supernets", ("modules",), BLUE),
        ("errors, streams", "the error tree; named random streams", (), GREY),
    ]
    figure.text(20, 34, "automl_nas: each package imports only those below it", bold=True, anchor="start", size=14)
    y = 48.0
    for name, about, rooms, fill in rows:
        height = 76 if rooms else 48
        figure.box(20, y, 580, height, fill=fill)
        figure.text(36, y + 29, name, bold=True, anchor="start", size=14)
        figure.text(168, y + 29, about, anchor="start", color=MUTED)
        for number, room in enumerate(rooms):
            figure.box(168 + 100 * number, y + 42, 92, 26, fill=WHITE)
            figure.text(214 + 100 * number, y + 59, room, size=12)
        y += height + 8
    figure.text(644, 34, "plugins: none imports another", bold=True, anchor="start", size=14)
    names = (
        ("spaces", "search spaces"),
        ("oneshot", "SPOS: single-path supernets"),
        ("evolution", "random, evolutionary, local"),
        ("surrogate", "search guided by a model"),
        ("optuna", "samplers, storages, workers"),
        ("dso", "DSO-NAS: space and strategy"),
        ("benchmarks", "tabular benchmarks, studies"),
        ("costs", "FLOPs, memory, latency"),
        ("vision", "image tasks"),
        ("export", "safetensors, pt2, ONNX"),
    )
    for number, (name, about) in enumerate(names):
        top = 48 + 44 * number
        figure.box(644, top, 296, 36, fill=WHITE)
        figure.text(656, top + 23, name, bold=True, anchor="start")
        figure.text(750, top + 23, about, anchor="start", size=12, color=MUTED)
    figure.arrow((644, 512), (622, 512), (622, 268), (600, 268))
    figure.text(652, 510, "entry points and hooks:", anchor="start", size=12, color=MUTED)
    figure.text(652, 528, "yours are found in the same way", anchor="start", size=12, color=MUTED)
    return figure


def table(page: str, beginning: str = "|") -> list[list[str]]:
    """Return the cells of a table of a page of results, the head first, without the line below it.

    Args:
        page: the file's name.
        beginning: of the head's line; the first table that has it is returned.
    """
    lines = (FOLDER / "results" / page).read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(beginning))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [rows[0], *rows[2:]]


def supernet_ranks() -> Figure:
    """Kendall's tau of each way to order networks, from the table of the page; bars are its 95 % intervals."""
    head, *rows = table("supernets.md")
    left, panel, gap, top, step = 330, 170, 22, 66, 34
    width, height = left + 3 * (panel + gap), top + step * len(rows) + 16
    figure = Figure(width, height, "Kendall's tau with the true accuracy of each way to order networks")
    figure.text(left + 1.5 * (panel + gap), 24, "Kendall's tau with the true accuracy", bold=True, size=14)
    for column, title in enumerate(head[1:]):
        start = left + column * (panel + gap)
        figure.text(start + panel / 2, 44, title, color=MUTED)
        for tick in (0.2, 0.4, 0.6, 0.8):
            figure.line(start + panel * tick, top - 8, start + panel * tick, height - 14, color="#e3e7ee")
            figure.text(start + panel * tick, top - 10, f"{tick:g}", size=11, color=MUTED)
    for place, (name, *cells) in enumerate(rows):
        y = top + step * place + 16
        figure.text(left - 14, y + 5, name, anchor="end")
        color = "#2f6fd0" if "supernet" in name or "same" in name else INK
        for column, cell in enumerate(cells):
            start = left + column * (panel + gap)
            value, *interval = map(float, re.findall(r"-?[0-9.]+", cell))
            if interval:
                low, high = interval
                figure.line(start + panel * low, y, start + panel * high, y, color=color, width=2.5)
            figure.point(start + panel * value, y, color=color)
    return figure


def lambda_gradient() -> Figure:
    """The gradient of lambda over phase 2 of DSO-NAS, from the table of the page: its radial part, and its noise."""
    rows = table("sparsity.md", "| rule | at |")[1:]
    top, height, panel, left = 84, 220, 300, 76
    figure = Figure(left + 2 * panel + 230, top + height + 56, "Radial part and noise of the gradient of lambda")
    colors = {"`l1`": "#2f6fd0", "`hoyer`": "#c9701c", "`sensitivity`": "#2d8f55"}

    def draw(start: float, column: int, low: float, high: float, color: str, rule: str, log: bool) -> None:
        points = []
        for row in rows:
            if row[0] == rule:
                value = math.log10(float(row[column])) if log else float(row[column])
                points.append((start + panel * 0.9 * float(row[1]), top + height * (high - value) / (high - low)))
        for (x1, y1), (x2, y2) in pairwise(points):
            figure.line(x1, y1, x2, y2, color=color, width=2)
        for x, y in points:
            figure.point(x, y, color=color)

    titles = ("radial share of the gradient", "signal to noise of the tangential part")
    for number, (title, low, high) in enumerate(zip(titles, (-7, 0), (0, 4), strict=True)):
        start = left + number * (panel + 70)
        figure.text(start + panel * 0.45, 36, title, bold=True, size=14)
        for tick in range(low, high + 1):
            y = top + height * (high - tick) / (high - low)
            figure.line(start, y, start + panel * 0.9, y, color="#e3e7ee")
            label = "1" if not number and tick == 0 else f"1e{tick}" if not number else f"{tick}"
            figure.text(start - 8, y + 4, label, size=11, anchor="end", color=MUTED)
        for share in (0.0, 0.3, 0.6, 0.9):
            figure.text(start + panel * 0.9 * share, top + height + 20, f"{100 * share:.0f} %", size=11, color=MUTED)
        figure.text(start + panel * 0.45, top + height + 42, "of phase 2", size=12, color=MUTED)
        for rule, color in colors.items():
            draw(start, 2 + 2 * number, low, high, color, rule, log=not number)
        if not number:
            draw(start, 3, low, high, LINE, "`l1`", log=True)
        else:
            y = top + height * (high - 1) / (high - low)
            figure.line(start, y, start + panel * 0.9, y, color=LINE, width=2)
    right = left + 2 * panel + 66
    for place, (name, color) in enumerate(colors.items()):
        figure.point(right, top + 24 * place + 10, color=color)
        figure.text(right + 12, top + 24 * place + 15, name.strip("`"), anchor="start")
    for place, text in enumerate(("grey: a random direction", "(left), and 1, which is", "no signal (right)")):
        figure.text(right - 5, top + 100 + 18 * place, text, anchor="start", size=12, color=MUTED)
    return figure


def space_and_search() -> Figure:
    """What DSO-NAS gains by its search and loses by its space, from two tables of the page, with 95 % intervals."""
    head, *rows = table("sparsity.md", "| data | edges |")
    _, *longer = table("sparsity.md", "| data, 36 epochs of phase 2 | edges |")
    rows += [[f"{row[0]}, longer phase 2", *row[1:]] for row in longer]
    parts = (
        ("found - random", "the search: found - random", "#2d8f55"),
        ("random - residual", "the space: random - residual", "#c9701c"),
        ("found - residual", "both: found - residual", "#2f6fd0"),
    )
    chosen = [row for row in rows if row[head.index("edges")] != "all"]
    left, width, top, step, low, high = 250, 460, 70, 24, -2.6, 2.0
    height = top + len(chosen) * (step * len(parts) + 32) + 34
    figure = Figure(left + width + 30, height, "Differences of test errors: what is due to the search and to the space")

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    figure.text(left + width / 2, 26, "difference of test errors in percentage points", bold=True, size=14)
    for tick in (-2, -1, 0, 1, 2):
        figure.line(x(tick), top - 10, x(tick), height - 20, color=LINE if tick == 0 else "#e3e7ee")
        figure.text(x(tick), top - 16, f"{tick:+d}" if tick else "0", size=11, color=MUTED)
    y = top
    for row in chosen:
        figure.text(20, y + 14, f"{row[0]}, {row[head.index('edges')]} of the edges", bold=True, anchor="start")
        y += 22
        for column, label, color in parts:
            value, start, end = map(float, re.findall(r"[-+][0-9.]+", row[head.index(column)]))
            figure.text(left - 12, y + 15, label, anchor="end")
            figure.line(x(start), y + 10, x(end), y + 10, color=color, width=2.5)
            figure.point(x(value), y + 10, color=color)
            y += step
        y += 10
    figure.text(left + width / 2, height - 6, "below 0: the first of the two is better", size=12, color=MUTED)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "concepts/architecture.svg": architecture,
    "concepts/pipeline.svg": pipeline,
    "concepts/selections.svg": selections,
    "concepts/survival.svg": survival,
    "concepts/plugins.svg": plugins,
    "results/lambda_gradient.svg": lambda_gradient,
    "results/space_and_search.svg": space_and_search,
    "results/supernet_ranks.svg": supernet_ranks,
}
"""File -> the function that draws it."""


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    outdated = 0
    for name, draw in FIGURES.items():
        file, text = FOLDER / name, draw().svg()
        if check:
            outdated |= not file.exists() or file.read_text(encoding="utf-8") != text
        else:
            file.write_text(text, encoding="utf-8")
    return int(outdated)


if __name__ == "__main__":
    sys.exit(main())
