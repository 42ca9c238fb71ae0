"""The plot of the histories: the true value of the derived network along each search."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl_nas_benchmarks.one_shot.outcomes import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def history_plot(outcomes: Sequence[Outcome]) -> bytes | None:
    """Return the plot as PNG; None if there is nothing to draw, or matplotlib is not installed."""
    if not outcomes or importlib.util.find_spec("matplotlib") is None:
        return None
    image = io.BytesIO()
    draw(outcomes).savefig(image, format="png", dpi=120)
    return image.getvalue()


def draw(outcomes: Sequence[Outcome]) -> Figure:
    """Return a figure with a panel for each method on each space, and a line for each seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.cell.space, each.cell.method), []).append(each)
    columns = min(len(groups), 4)
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axes in panels[len(groups) :]:
        axes.remove()
    several = len({space for space, _ in groups}) > 1
    for axes, ((space, method), runs) in zip(panels, groups.items(), strict=False):
        for run in runs:
            points = [(moment.share, moment.truth) for moment in run.history if moment.truth is not None]
            shares = [share for share, _ in points] + [1.0]
            truths = [truth for _, truth in points] + [run.truth if run.truth is not None else float("nan")]
            axes.step(shares, truths, where="post", label=f"seed {run.cell.seed}", linewidth=1.2)
        axes.set_title(f"{method} on {space}" if several else method, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("share of the search", fontsize=7)
        axes.set_ylabel("true value", fontsize=7)
    panels[0].legend(fontsize=6)
    return figure
