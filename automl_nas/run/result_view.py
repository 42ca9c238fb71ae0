"""How a result is shown in a Python shell and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from automl_nas.run.final.report import FinalReport
from automl_nas.run.number_text import cost, exact, human, measured

_SHOWN = 40
"""The largest number of decisions that a notebook lists before they are folded."""


def as_text(directory: Path, data: Mapping[str, Any]) -> str:
    """Return one line: directory, number of trials, metrics and costs, and what was not achieved.

    Args:
        directory: the run directory.
        data: the content of ``result.json``.
    """
    metrics, _, costs = _values(data)
    parts = [f"{exact(_trials(data))} trials"]
    parts += [f"{name} {human(value)}" for name, value in {**metrics, **costs}.items() if value is not None]
    parts += [f"not achieved: {problem}" for problem in _not_achieved(data)]
    return f"Result({str(directory)!r}: {', '.join(parts)})"


def as_html(directory: Path, data: Mapping[str, Any]) -> str:
    """Return a table: what the run found, and what it did not achieve; see `as_text`."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{cell}</td></tr>"
        for name, cell in _rows(directory, data)
    )
    return f"<table>{rows}</table>"


def _rows(directory: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield title and HTML of each row."""
    yield "run directory", f"<code>{escape(str(directory))}</code>"
    yield "trials", f"{exact(_trials(data))}; {len(data['pareto'])} on the Pareto front"
    metrics, intervals, costs = _values(data)
    where = "best trial" if data["final"] is None else "test split"
    for name, value in metrics.items():
        interval = intervals.get(name)
        note = f"{where}, 95 % interval" if interval is not None else where
        yield name, f"{measured(value, interval)} <small>({note})</small>"
    for name, amount in costs.items():
        yield name, "unknown" if amount is None else escape(cost(amount))
    architecture = data["architecture"]
    if architecture is not None:
        lines = "<br>".join(escape(f"{name} = {value}") for name, value in architecture.items())
        is_open = " open" if len(architecture) <= _SHOWN else ""
        yield "architecture", f"<details{is_open}><summary>{len(architecture)} decisions</summary>{lines}</details>"
    for problem in _not_achieved(data):
        yield "not achieved", escape(problem)
    for delivered in () if data["final"] is None else FinalReport.from_json(data["final"]).deliveries:
        for file in delivered.files:
            yield "exported", f"<code>{escape(str(directory / file))}</code>"


def _trials(data: Mapping[str, Any]) -> int:
    return sum(stage["trials"] for stage in data["stages"])


def _values(data: Mapping[str, Any]) -> tuple[Mapping[str, float], Mapping[str, Any], Mapping[str, float | None]]:
    """Return metrics, intervals of the metrics, and costs: of the delivered network, else of the best trial."""
    if data["final"] is not None:
        delivered = data["final"]["networks"][data["final"]["chosen"]]
        return delivered.get("test") or {}, delivered.get("test_interval") or {}, delivered["costs"]
    best = data["best"]
    return ({}, {}, {}) if best is None else (best["metrics"], {}, best["costs"])


def _not_achieved(data: Mapping[str, Any]) -> list[str]:
    """Return what `Result.shortcomings` lists, in few words and from ``result.json`` alone."""
    problems = []
    if data["architecture"] is None and _trials(data):
        problems.append("a feasible network")
    if data["final"] is not None:
        final = FinalReport.from_json(data["final"])
        problems += [f"limit {check.cost} {check.limit}" for check in final.missed_limits]
        problems += [f"export as {failure.format}" for each in final.deliveries for failure in each.not_exported]
    return problems
