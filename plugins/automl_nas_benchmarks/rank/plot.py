"""The plot of a ranking study: the scores of predictors against the true values."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

from automl_nas.evaluation import kendall_tau
from automl_nas_benchmarks.rank.study import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def scatter(sample: Sample) -> bytes | None:
    """Return the plot as PNG; None if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    image = io.BytesIO()
    draw(sample).savefig(image, format="png", dpi=120)
    return image.getvalue()


def draw(sample: Sample) -> Figure:
    """Return a figure with a panel for each predictor, with the scores of its first run; colours show the cost."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(sample.predictors)
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.0 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    cost = next((each.scores[0] for each in sample.predictors if each.name == sample.cut), None)
    for axes, predictor in zip(panels, sample.predictors, strict=False):
        scores = predictor.scores[0]
        points = axes.scatter(sample.truth, scores, c=cost, s=9, cmap="viridis", linewidths=0)
        free = ", known for free" if predictor.trivial else ""
        axes.set_title(f"{predictor.name}{free}: tau {kendall_tau(scores, sample.truth):.2f}", fontsize=9)
        axes.set_xlabel("true value", fontsize=8)
        axes.tick_params(labelsize=7)
    if cost is not None:
        figure.colorbar(points, ax=panels[:count], label=sample.cut, shrink=0.8)
    return figure
