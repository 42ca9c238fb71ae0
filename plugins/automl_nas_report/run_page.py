"""The report of one run."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.errors import AutoMLNASError
from automl_nas.evaluation import State
from automl_nas.run import (
    FinalReport,
    Result,
    RunDirectory,
    RunState,
    StageState,
    dump_yaml,
    logged_numbers,
    open_run,
    read_json,
    way_to_export,
    way_to_resume,
)
from automl_nas.strategy import Trial
from automl_nas_report import charts
from automl_nas_report.curves_data import logged_lines
from automl_nas_report.network_drawing import MOST_LAYERS, found_layers
from automl_nas_report.pictures import found_pictures
from automl_nas_report.tallies import as_text, tally
from automl_nas_report.writing import render

MOST_ROWS = 25
"""The largest number of trials in a table."""

MOST_CLASSES = 40
"""The largest number of classes whose confusion matrix is drawn."""

MOST_CHARACTERS = 60_000
"""The largest part of the configuration that is shown."""


@dataclass(frozen=True)
class Section:
    """What a report shows of a stage with trials.

    Attributes:
        stage: its state.
        metric: the main objective.
        direction: of it.
        best: the best trial; None if no trial is feasible.
        front: the Pareto front, at most `MOST_ROWS` trials of it.
        front_size: number of trials on the Pareto front.
        trade_offs: one chart for each cost.
        history: the metric over trials; None if no trial has it.
        options: decision -> tally of its options.
        more_decisions: number of decisions that are left out.
        failures: reason -> number of trials that failed with it, the most frequent first.
        units: cost -> unit.
    """

    stage: StageState
    metric: str
    direction: str
    best: Trial | None
    front: Sequence[Trial]
    front_size: int
    trade_offs: Sequence[charts.Chart]
    history: charts.Chart | None
    options: Mapping[str, Sequence[Any]]
    more_decisions: int
    failures: Mapping[str, int]
    units: Mapping[str, str]


def run_page(path: Path) -> str:
    """Return the report of a run as HTML.

    Args:
        path: the run directory.

    Raises:
        RunDirectoryError: the path is not a run directory.
        DamagedError: a file of the run is damaged.
    """
    directory = RunDirectory.open(path)
    state, config = RunState.read(path), directory.read_config()
    result = open_run(path) if state.result is not None else None
    final = None if result is None else result.final
    sections = [_section(stage, state) for stage in state.stages if stage.trials]
    layers, drawn_from = ([], "") if result is None or not result.found else found_layers(result)
    pictures, more_pictures = found_pictures(path)
    return render(
        "run.html",
        title=path.resolve().name,
        directory=str(path),
        state=state,
        problem=_problem(state.leading),
        result=result,
        best=None if result is None and not sections else sections[-1].best if sections else None,
        leading=sections[-1] if sections else None,
        architecture=_architecture(state, result),
        final=final,
        final_units=_units(state),
        comparisons=[] if final is None else _comparisons(final),
        shortcomings=[] if result is None else [shortcoming.message for shortcoming in result.shortcomings],
        damage=[str(damage) for damage in state.damage],
        sections=sections,
        curves=_curves(directory),
        confusion=None if final is None else _confusion(final.delivered.details),
        classes=[] if final is None else _classes(final.delivered.details),
        details=None if final is None else _other_details(final.delivered.details),
        layers=charts.layers(
            [(layer.name, layer.description, layer.kind, float(layer.parameters)) for layer in layers[:MOST_LAYERS]],
            [layer.shape for layer in layers[:MOST_LAYERS]],
        )
        if layers
        else None,
        drawn_from=drawn_from,
        more_layers=max(0, len(layers) - MOST_LAYERS),
        pictures=pictures,
        more_pictures=more_pictures,
        config=_cut(dump_yaml(config), MOST_CHARACTERS),
        environment=_environment(directory),
        seconds=sum(trial.seconds for stage in state.stages for trial in stage.trials),
        commands=_commands(path, config, state),
    )


def _section(stage: StageState, state: RunState) -> Section:
    metric, direction = next(iter(stage.problem.objectives.items()))
    trials = stage.trials
    best, front = stage.problem.best(trials), stage.problem.pareto(trials)
    costs = list(dict.fromkeys(name for trial in trials for name in trial.costs))
    others = [name for name in (*list(stage.problem.objectives)[1:], *costs) if name != metric]
    units = _units(state)
    trade_offs = [
        chart
        for name in list(dict.fromkeys(others))[:4]
        if (chart := charts.trade_off(stage, name, best, units.get(name, "")))
    ]
    options, more = tally(trials, metric, direction, None if best is None else dict(best.architecture))
    failures = Counter(_cut(trial.error, 300) for trial in trials if trial.state is State.FAILED)
    return Section(
        stage,
        metric,
        direction,
        best,
        front[:MOST_ROWS],
        len(front),
        trade_offs,
        charts.history(trials, stage.problem.comparable(trials), metric, direction),
        options,
        more,
        dict(failures.most_common(5)),
        units,
    )


def _problem(stage: StageState) -> list[str]:
    terms = [f"{direction} {name}" for name, direction in stage.problem.objectives.items()]
    return terms + [f"{name} {limit}" for name, limit in stage.limits.items()]


def _units(state: RunState) -> Mapping[str, str]:
    """Return cost -> unit, which only the result records."""
    units: dict[str, str] = {}
    for stage in state.result["stages"] if state.result is not None else ():
        units |= stage["units"]
    return units


def _architecture(state: RunState, result: Result | None) -> dict[str, str]:
    """Return decision -> value as text: of the found network, or of the best one so far."""
    if result is not None:
        values = result.architecture if result.found else None
    else:
        best = state.leading.problem.best(state.leading.trials)
        values = None if best is None else best.architecture
    return {} if values is None else {name: as_text(value) for name, value in values.items()}


def _comparisons(final: FinalReport) -> list[dict[str, Any]]:
    return [
        {
            "role": comparison.role,
            "difference": comparison.difference,
            "interval": comparison.interval,
            "exceeds": comparison.exceeds_noise,
        }
        for comparison in final.comparisons
    ]


def _curves(directory: RunDirectory) -> dict[str, list[charts.Chart]]:
    """Return stage -> charts of the numbers that it logged."""
    records = (record for record in logged_numbers(directory.metrics) if isinstance(record, dict))
    return {
        stage: [
            chart for title, (x, lines) in drawings.items() if (chart := charts.curves(lines, x, title)) is not None
        ]
        for stage, drawings in logged_lines(records).items()
    }


def _confusion(details: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the confusion matrix as rows of cells; None without one, or if it is too large or not of numbers."""
    matrix, names = details.get("confusion_matrix"), details.get("classes")
    if not isinstance(matrix, list) or not 0 < len(matrix) <= MOST_CLASSES or not isinstance(names, list):
        return None
    if any(not isinstance(row, list) or len(row) != len(matrix) or not all(map(_is_count, row)) for row in matrix):
        return None
    if len(names) != len(matrix):
        return None
    rows = []
    for position, row in enumerate(matrix):
        total = sum(row)
        cells = [
            {"count": count, "share": count / total if total else 0.0, "right": column == position}
            for column, count in enumerate(row)
        ]
        rows.append({"name": str(names[position]), "cells": cells, "total": total})
    wrong = sorted(
        (
            (count, str(names[position]), str(names[column]))
            for position, row in enumerate(matrix)
            for column, count in enumerate(row)
            if count and column != position
        ),
        key=lambda item: -item[0],
    )
    return {"names": [str(name) for name in names], "rows": rows, "wrong": wrong[:8]}


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _classes(details: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return recall, precision and support of each class or label, as far as the details have them."""
    names = details.get("classes") or details.get("labels")
    if not isinstance(names, list):
        return []
    columns = {key: details.get(key) for key in ("precision", "recall", "support")}
    columns = {key: values for key, values in columns.items() if isinstance(values, list) and len(values) == len(names)}
    if not columns:
        return []
    return [
        {"name": str(name), **{key: values[position] for key, values in columns.items()}}  # type: ignore[index]
        for position, name in enumerate(names[:200])
    ]


def _other_details(details: Mapping[str, Any]) -> str | None:
    """Return what is not shown in tables, as text."""
    shown = {"classes", "labels", "precision", "recall", "support", "confusion_matrix"}
    others = {name: value for name, value in details.items() if name not in shown}
    return _cut(json.dumps(others, indent=2, ensure_ascii=False), 4000) if others else None


def _environment(directory: RunDirectory) -> dict[str, str]:
    """Return package -> version; empty if the record is damaged: only the report lacks it."""
    with contextlib.suppress(AutoMLNASError):
        content = read_json(directory.environment)
        if isinstance(content, dict):
            return {str(key): str(value) for key, value in content.items() if key != "crc" and value is not None}
    return {}


def _commands(path: Path, config: Mapping[str, Any], state: RunState) -> list[tuple[str, str]]:
    """Return purpose and command, or call."""
    resume, export = way_to_resume(path, config), way_to_export(path, config)
    again = f"automl-nas run {shlex.quote(str(path / 'config.yaml'))} --out NEW"
    if not resume.startswith("automl-nas"):  # a configuration with Python objects
        again = "automl_nas.search(..., out='NEW') in Python, with the objects of the run"
    commands = [("repeat the run", again), ("show the run", f"automl-nas show {shlex.quote(str(path))}")]
    if state.result is None:
        return [("continue the run", resume), *commands]
    read = f"automl_nas.open_run({str(path)!r})"
    commands.append(("read the result in Python", read))
    if not resume.startswith("automl-nas"):  # building the network needs the object
        read = f"{read[:-1]}, space=...)"
    if state.result["final"] is not None:
        commands.append(("use the trained network in Python", f"{read}.load_trained()"))
        commands.append(("export another format", export))
    return commands


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} more characters"
