"""A comparison of runs as a page."""

from __future__ import annotations

import math

from automl_nas_report import charts
from automl_nas_report.comparison import MOST_SETTINGS, ComparedRun, Comparison
from automl_nas_report.writing import render


def comparison_page(comparison: Comparison) -> str:
    """Return a comparison as HTML."""
    header, rows = comparison.rows()
    differences = comparison.differences
    return render(
        "comparison.html",
        title=f"Comparison of {len(comparison.runs)} runs",
        header=header,
        rows=rows,
        directories=[str(run.state.directory) for run in comparison.runs],
        labels=[run.label for run in comparison.runs],
        differences={name: [value[:300] for value in differences[name]] for name in list(differences)[:MOST_SETTINGS]},
        more_differences=max(0, len(differences) - MOST_SETTINGS),
        drawings=_charts(comparison),
        architectures=_architectures(comparison),
    )


def _charts(comparison: Comparison) -> list[charts.Chart]:
    """Return the best values so far and the Pareto fronts. Runs with the same main objective share charts."""
    drawings: list[charts.Chart | None] = []
    for metric, direction in dict.fromkeys(run.objective for run in comparison.runs):
        runs = [run for run in comparison.runs if run.objective == (metric, direction)]
        lines = {run.label: _best_so_far(run, metric, direction) for run in runs}
        drawings.append(charts.curves(lines, "trial of the stage", f"best {metric} so far"))
        for name in comparison.costs:
            fronts = {run.label: _front(run, name, metric) for run in runs}
            drawings.append(charts.curves(fronts, name, f"{metric} on the Pareto front"))
    return [drawing for drawing in drawings if drawing is not None]


def _best_so_far(run: ComparedRun, metric: str, direction: str) -> list[tuple[float, float]]:
    stage, points = run.state.leading, list[tuple[float, float]]()
    comparable = {trial.number for trial in stage.problem.comparable(stage.trials)}
    better = max if direction == "maximize" else min
    for position, trial in enumerate(stage.trials):
        value = trial.values.get(metric)
        if trial.number in comparable and value is not None and math.isfinite(value):
            points.append((float(position), better(points[-1][1], value) if points else value))
    return points


def _front(run: ComparedRun, cost: str, metric: str) -> list[tuple[float, float]]:
    trials = charts.front_of(run.state.leading, cost)
    return [(trial.values[cost], trial.values[metric]) for trial in trials]


def _architectures(comparison: Comparison) -> dict[str, list[str]]:
    """Return decision -> its value in each run's network; empty if the runs have no decision in common."""
    networks = []
    for run in comparison.runs:
        if run.state.result is not None and run.state.result["architecture"] is not None:
            networks.append(run.state.result["architecture"])
        else:
            networks.append({} if run.best is None else run.best.architecture.to_dict())
    if len(networks) < 2 or not set(networks[0]).intersection(*networks[1:]):
        return {}
    names = list(dict.fromkeys(name for architecture in networks for name in architecture))[:200]
    return {name: [str(architecture.get(name, ""))[:200] for architecture in networks] for name in names}
