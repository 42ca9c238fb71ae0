"""Writes the report of a comparison: HTML, CSV, JSON, PNG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.run import dump_yaml, write_json, write_text
from automl_nas_benchmarks.comparison import formats
from automl_nas_benchmarks.comparison.findings import Findings
from automl_nas_benchmarks.comparison.formats import Rows
from automl_nas_benchmarks.comparison.plots import figures, svg_uri, write_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto; max-width: 62rem;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; margin: .8rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #888; }
img { max-width: 100%; height: auto; } p.note, figcaption { color: #555; font-size: .9rem; max-width: 48rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; } figure { margin: 1rem 0; }
"""


def write_report(folder: Path, findings: Findings, config: Mapping[str, Any], *, plots: bool = True) -> Path:
    """Write ``report.html``, ``result.json``, ``scores.csv``, ``pairs.csv``, ``curves.csv`` and the plots as PNG.

    Args:
        folder: an existing folder.
        findings: the results of the comparison.
        config: the resolved configuration, shown at the end of the page.
        plots: whether to draw plots; needs matplotlib.

    Returns:
        The path of the page.
    """
    plot_figures = figures(findings) if plots else {}
    write_plots(folder, plot_figures)
    write_text(folder / "scores.csv", formats.scores_csv(findings))
    write_text(folder / "pairs.csv", formats.pairs_csv(findings))
    write_text(folder / "curves.csv", formats.curves_csv(findings))
    write_json(folder / "result.json", formats.to_json(findings))
    write_text(folder / "report.html", page(findings, config, plot_figures))
    return folder / "report.html"


def page(findings: Findings, config: Mapping[str, Any], plot_figures: Mapping[str, Figure]) -> str:
    """Return an HTML page that contains its images."""
    images = {name: svg_uri(figure) for name, figure in plot_figures.items()}
    names = " / ".join(findings.strategies)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(names)}</title><style>{_STYLE}</style></head><body>",
        "<h1>Comparison of search strategies</h1>",
        f"<p>{len(findings.strategies)} strategies on {len(findings.benchmarks)} benchmarks, {findings.seeds} searches "
        f"of {findings.evaluations} evaluations each.</p>",
        *fragments(findings, images),
        "<h2>Configuration</h2>",
        f"<pre>{escape(dump_yaml(dict(config)))}</pre>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def fragments(findings: Findings, images: Mapping[str, str]) -> list[str]:
    """Return the body of the page as parts of HTML; notebooks show it, too."""
    parts = []
    if findings.tests:
        parts += ["<h2>Ranks</h2>", _table(formats.ranks_table(findings)), _image(images, "ranks", "mean ranks")]
        parts += [f"<p>{escape(line)}</p>" for line in formats.verdict(findings, findings.tests[0])]
        parts += [_table(formats.pairs_table(findings, findings.tests[0]), left=2)]
        parts.append(
            '<p class="note">A block is one seed on one benchmark: the tests generalise to other seeds on these '
            "benchmarks, not to other benchmarks. Ranks and the signed-rank test compare "
            f"{escape(formats.compared_quantity(findings))}, which means the same on every benchmark. "
            "Holm's correction is over all pairs.</p>"
        )
    regrets = [name for name in images if name.startswith("regret-")]
    by_benchmark = dict(zip(findings.benchmarks, regrets, strict=False))
    for place, name in enumerate(findings.benchmarks):
        count, best = findings.functions[name]
        tops = ", ".join(f"{functions} are the top {formats.percent(share)}" for share, functions in best.items())
        parts += [f"<h2>{escape(name)}</h2>", f"<p>{count:,} different feasible networks; {tops}.</p>"]
        parts += [_table(formats.scores_table(findings, name))]
        parts += [f"<p>{escape(line)}</p>" for line in formats.shortcomings(findings, name)]
        parts += [_image(images, by_benchmark.get(name, ""), f"curves on {name}")]
        if findings.tests and len(findings.benchmarks) > 1:
            test = findings.tests[place + 1]
            parts += [f"<p>{escape(line)}</p>" for line in formats.verdict(findings, test)]
            parts += [_table(formats.pairs_table(findings, test), left=2)]
    parts.append(
        '<p class="note">Regret: mean ± standard deviation over seeds of the optimum minus the true value of the '
        "network that the signal prefers at the end. To top: distinct evaluations until one of the truly best networks "
        "is evaluated: median / upper quartile over all seeds, where a search that does not evaluate one counts as "
        "later than the budget, and the share of searches that evaluate one.</p>"
    )
    return [part for part in parts if part]


def _table(rows: Rows, left: int = 1) -> str:
    header, body = rows
    aligned = [' style="text-align:left"' if place < left else "" for place in range(len(header))]
    head = "".join(f"<th{a}>{escape(cell)}</th>" for cell, a in zip(header, aligned, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{a}>{escape(cell)}</td>" for cell, a in zip(row, aligned, strict=True)) + "</tr>"
        for row in body
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _image(images: Mapping[str, str], name: str, about: str) -> str:
    return f'<figure><img src="{images[name]}" alt="{escape(about)}"></figure>' if name in images else ""
