"""Plots show the numbers, are legible with any colour vision, and change no global state."""

from __future__ import annotations

import base64
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from plugins.benchmarks.comparison import fixtures
from plugins.benchmarks.comparison.fixtures import spec, write_table

from automl_nas.errors import ConfigurationError
from automl_nas_benchmarks.comparison import Comparison, compare
from automl_nas_benchmarks.comparison.plots import (
    COLOURS,
    check_matplotlib,
    figures,
    png,
    style,
    svg_uri,
)

SCAN = "plugins.benchmarks.comparison.fixtures:Scan"
LABELS = ["random", "a strategy with a very long label indeed", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    table = write_table(tmp_path_factory.mktemp("plots") / "small.csv")
    strategies = {label: {"name": SCAN, "times": times} for times, label in enumerate(LABELS, start=1)}
    noisy = spec(table, label="noisy", metric="signal", truth="truth")
    return compare(strategies, [spec(table), noisy], seeds=15, evaluations=60, deduplicate=False)


def test_regret_figure_shows_medians_between_quartiles(result: Comparison) -> None:
    figure = result.regret_figure("noisy")
    (axes,) = figure.axes
    lines = {str(line.get_label()): line for line in axes.lines}
    curves = [curve for curve in result.findings.curves if curve.benchmark == "noisy"]
    assert len(lines) == len(axes.collections) == len(curves)
    (floor, *_) = axes.get_yticks()
    for curve, band in zip(curves, axes.collections, strict=True):
        values = np.asarray(lines[curve.strategy].get_ydata(), dtype=float)
        assert values.tolist() == np.maximum(np.median(curve.values, axis=0), floor).tolist()
        low, high = np.quantile(curve.values[:, -1], [0.25, 0.75])
        corners = band.get_paths()[0].vertices
        last = corners[corners[:, 0] == 60][:, 1]
        assert (min(last), max(last)) == (max(low, floor), max(high, floor))
    assert "median of 15 searches, band: quartiles" in axes.get_title(loc="left")


def test_regret_figure_has_a_tick_for_zero(result: Comparison) -> None:
    (axes,) = result.regret_figure("small").axes
    ticks = dict(zip((text.get_text() for text in axes.get_yticklabels()), axes.get_yticks(), strict=True))
    positive = [v for c in result.findings.curves if c.benchmark == "small" for v in c.values.flat if v > 0]
    assert 0 < ticks["0"] < min(positive)
    assert [float(text) for text in list(ticks)[1:]] == pytest.approx(list(ticks.values())[1:])


def test_difference_figure_shows_ranks_and_groups(result: Comparison) -> None:
    figure = result.difference_figure("noisy")
    (axes,) = figure.axes
    test = next(test for test in result.findings.tests if test.scope == "noisy")
    texts = [text.get_text() for text in axes.texts]
    for label, rank in zip(LABELS, test.friedman.mean_ranks, strict=True):
        assert any(text.endswith(f"  {rank:.2f}") or text.startswith(f"{rank:.2f}  ") for text in texts)
        assert len(label) > 30 or any(label in text.split() for text in texts)
    bars = [line for line in axes.lines if line.get_linewidth() == 4]
    assert len(bars) == len(test.groups)
    for bar, group in zip(bars, test.groups, strict=True):
        ranks = [test.friedman.mean_ranks[LABELS.index(label)] for label in group]
        low, high = bar.get_xdata()
        assert low < min(ranks) <= max(ranks) < high
    (ruler,) = [line for line in axes.lines if set(line.get_ydata()) == {1.05}]
    assert np.ptp(ruler.get_xdata()) == pytest.approx(test.difference)


def test_figure_labels_do_not_overlap(result: Comparison) -> None:
    for name, figure in figures(result.findings).items():
        figure.canvas.draw()
        (axes,) = figure.axes
        legend = axes.get_legend()
        texts = [*axes.texts, *(legend.get_texts() if legend else []), *figure.texts]
        texts += [axes.title, axes._left_title] if legend else []
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        width, height = figure.bbox.width, figure.bbox.height
        for box in boxes:
            # Half a pixel of rounding.
            assert box.x0 >= -0.5 and box.x1 <= width + 0.5, name
            assert box.y0 >= -0.5 and box.y1 <= height + 0.5, name
        for first, second in itertools.combinations(boxes, 2):
            assert not first.overlaps(second), name
        if legend:
            assert not legend.get_window_extent().overlaps(axes.get_window_extent()), name


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_line_styles_are_distinct() -> None:
    looks = [style(place) for place in range(len(COLOURS) * 4)]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == len(looks)
    for first, second in itertools.pairwise(looks):
        assert first["color"] != second["color"]
        assert first["linestyle"] != second["linestyle"]
    # For lines of 1.9 points, unlike text, a contrast of 2 to the white background is enough.
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in COLOURS)
    # How deuteranopes see colours: Viénot, Brettel and Mollon 1999, table 2 and the matrices before it.
    to_cones = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    blind = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    seen = [np.linalg.inv(to_cones) @ blind @ to_cones @ np.array(to_rgb(colour)) ** 2.2 for colour in COLOURS]
    assert min(float(np.abs(a - b).max()) for a, b in itertools.combinations(seen, 2)) > 0.1


def test_equal_figures_give_equal_images(result: Comparison) -> None:
    first, second = (svg_uri(result.difference_figure()) for _ in range(2))
    assert first == second
    head, _, content = first.partition(",")
    assert head == "data:image/svg+xml;base64"
    root = ElementTree.fromstring(base64.b64decode(content))
    assert root.tag.endswith("svg")
    image = png(result.difference_figure())
    assert image.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(image[16:20], "big") == 7.0 * 150


def test_missing_matplotlib_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    check_matplotlib()
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(ConfigurationError, match=r"pip install 'automl-nas\[benchmark\]'"):
        check_matplotlib()


SCRIPT = """
import sys
from automl_nas_benchmarks.comparison import compare
from plugins.benchmarks.comparison.fixtures import spec, write_table
from pathlib import Path
table = write_table(Path(sys.argv[1]) / "small.csv")
result = compare(["plugins.benchmarks.comparison.fixtures:Scan"], [spec(table)], seeds=2, evaluations=5)
assert not {"matplotlib", "torch"} & set(sys.modules), "not before it is needed"
import matplotlib
def settings():
    # Asking for the backend chooses one, with pyplot.
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
result.write(sys.argv[1])
assert settings() == before
assert "matplotlib.pyplot" not in sys.modules
"""


@pytest.mark.process
def test_plots_import_matplotlib_late_and_change_no_global_state(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(fixtures.__file__).parents[3]), *sys.path]),
    }
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "regret-small.png").exists()
