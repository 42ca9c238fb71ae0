"""The plots of a comparison: regret curves and critical-difference diagrams, as matplotlib figures.

Figures are created without pyplot: no global state changes and no window opens. The colours are those of Okabe and Ito
(2008), which are distinct for people with any colour vision, without the yellow, which is too pale on white. Dashes and
the order of the legend distinguish strategies without colour.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_nas.errors import ConfigurationError
from automl_nas_benchmarks.comparison.findings import ALL, Findings, Significance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

_LONG = 30
"""Length of the longest label that is drawn in full."""


def check_matplotlib() -> None:
    """Check that matplotlib is installed, before any search.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigurationError(
            "plots need matplotlib, which is not installed: pip install 'automl-nas[benchmark]', or disable plots "
            "(--no-plots, plots=False)"
        )


def shortened(label: str) -> str:
    """Return a label for a plot; the middle of a long label is replaced by an ellipsis."""
    return label if len(label) <= _LONG else f"{label[: _LONG // 2]}…{label[-(_LONG // 2) :]}"


def style(place: int) -> dict[str, Any]:
    """Return the colour and the dashes of a strategy by its position in the configuration."""
    round_, colour = divmod(place, len(COLOURS))
    return {"color": COLOURS[colour], "linestyle": DASHES[(colour + round_) % len(DASHES)]}


def regret_figure(findings: Findings, benchmark: str) -> Figure:
    """Draw the median over seeds of each strategy after each evaluation, with a band between the quartiles.

    The vertical axis is logarithmic down to the smallest positive value; the tick below it is zero.

    Args:
        findings: the results of the comparison.
        benchmark: label of the benchmark.
    """
    figure, axes = _figure(8.4, 4.2)
    curves = [curve for curve in findings.curves if curve.benchmark == benchmark]
    positive = [float(curve.values[curve.values > 0].min()) for curve in curves if (curve.values > 0).any()]
    smallest = 10 ** math.floor(math.log10(max(min(positive), 1e-4))) if positive else 1e-3
    floor = smallest / 3
    steps = np.arange(1, findings.evaluations + 1)
    for place, curve in enumerate(curves):
        look = style(place)
        low, high = curve.quartiles()
        axes.fill_between(
            steps, np.maximum(low, floor), np.maximum(high, floor), color=look["color"], alpha=0.16, linewidth=0
        )
        axes.plot(steps, np.maximum(curve.median, floor), label=curve.strategy, linewidth=1.9, **look)
    axes.set_yscale("log")
    top = max(float(curve.median[0]) for curve in curves)
    axes.set_ylim(floor * 0.8, max(top, smallest) * 1.5)
    ticks = [10.0**power for power in range(round(math.log10(smallest)), math.ceil(math.log10(max(top, smallest))) + 1)]
    axes.set_yticks([floor, *ticks], ["0", *(f"{tick:g}" for tick in ticks)])
    axes.minorticks_off()
    axes.set_xlim(1, findings.evaluations)
    axes.set_xlabel("evaluations")
    unit = f" ({findings.units[benchmark]})" if findings.units[benchmark] else ""
    axes.set_ylabel("missed share of the hypervolume" if findings.several else f"regret{unit}")
    axes.set_title(f"{benchmark}: median of {findings.seeds} searches, band: quartiles", fontsize=10.5, loc="left")
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    # The legend is beside the axes, where it hides no line, in the order of the lines' ends.
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(curves)), key=lambda place: -float(curves[place].median[-1]))
    axes.legend(
        [handles[place] for place in order],
        [shortened(labels[place]) for place in order],
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        borderaxespad=0,
        handlelength=3.2,
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def difference_figure(findings: Findings, scope: str = ALL) -> Figure:
    """Draw a critical-difference diagram (Demšar 2006, figure 1): mean ranks, best on the left.

    A bar joins strategies whose mean ranks differ by at most the critical difference.

    Args:
        findings: the results of a comparison of at least two strategies.
        scope: label of a benchmark, or `ALL`.
    """
    test = next(test for test in findings.tests if test.scope == scope)
    labels, means = findings.strategies, test.friedman.mean_ranks
    count = len(labels)
    order = sorted(range(count), key=lambda place: means[place])
    left = order[: (count + 1) // 2]
    bars = len(test.groups)
    first = -0.55 - 0.32 * bars
    rows = [*range(len(left)), *reversed(range(count - len(left)))]
    bottom = first - 0.52 * max(rows)
    figure, axes = _figure(7.0, 0.62 * (2.4 - bottom) + 0.5)
    axes.set_axis_off()
    span = max(count - 1, 1)
    axes.set_xlim(1 - 0.5 * span, count + 0.5 * span)
    axes.set_ylim(bottom - 0.4, 2.0)
    axes.plot([1, count], [0, 0], color="black", linewidth=1.2)
    for tick in range(1, count + 1):
        axes.plot([tick, tick], [0, 0.14], color="black", linewidth=1.2)
        axes.text(tick, 0.24, str(tick), ha="center", va="bottom", fontsize=9.5)
    _ruler(axes, test, count, findings.alpha)
    for place, row in zip(order, rows, strict=True):
        height = first - 0.52 * row
        on_left = place in left
        edge = 1 - 0.05 * span if on_left else count + 0.05 * span
        look = style(place)
        axes.plot([means[place], means[place], edge], [0, height, height], color=look["color"], linewidth=1.4)
        axes.text(
            edge - 0.02 * span if on_left else edge + 0.02 * span,
            height,
            f"{shortened(labels[place])}  {means[place]:.2f}"
            if on_left
            else f"{means[place]:.2f}  {shortened(labels[place])}",
            ha="right" if on_left else "left",
            va="center",
            fontsize=10,
        )
    for number, group in enumerate(test.groups):
        inside = [means[labels.index(label)] for label in group]
        height = -0.32 - 0.32 * number
        ends = [min(inside) - 0.015 * span, max(inside) + 0.015 * span]
        axes.plot(ends, [height, height], color="black", linewidth=4, solid_capstyle="butt")
    title = f"{scope}: mean rank over {test.friedman.blocks:,} blocks; joined: no significant difference"
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def _ruler(axes: Axes, test: Significance, count: int, alpha: float) -> None:
    length = test.difference
    if length >= count - 1:
        text = f"critical difference {length:.2f} (longer than the axis; Nemenyi, {alpha:g})"
        axes.text(1, 1.25, text, ha="left", va="center", fontsize=9.5)
        return
    axes.plot([1, 1 + length], [1.05, 1.05], color="black", linewidth=1.2)
    for end in (1, 1 + length):
        axes.plot([end, end], [0.95, 1.15], color="black", linewidth=1.2)
    text = f"critical difference {length:.3g} (Nemenyi, {alpha:g})"
    axes.text(1, 1.3, text, ha="left", va="bottom", fontsize=9.5)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    check_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def svg_uri(figure: Figure) -> str:
    """Return a figure as a data URI with an SVG image; equal figures give equal URIs."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "automl-nas"}):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def figures(findings: Findings) -> dict[str, Figure]:
    """Return all plots of a comparison: file name without suffix -> figure."""
    plots = {f"regret-{_file(name)}": regret_figure(findings, name) for name in findings.benchmarks}
    if findings.tests:
        plots["ranks"] = difference_figure(findings)
        if len(findings.benchmarks) > 1:
            plots |= {f"ranks-{_file(name)}": difference_figure(findings, name) for name in findings.benchmarks}
    return plots


def write_plots(folder: Path, plot_figures: dict[str, Figure]) -> Sequence[Path]:
    """Write figures as PNG files; return their paths."""
    from automl_nas.run import write_whole

    paths = []
    for name, figure in plot_figures.items():
        path = folder / f"{name}.png"
        content = png(figure)
        write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        paths.append(path)
    return paths


def _file(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in label)
