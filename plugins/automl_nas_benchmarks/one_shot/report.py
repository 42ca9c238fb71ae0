"""The report of a comparison of one-shot methods: text for the terminal, JSON, CSV, and a plot of the histories."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_nas.cli import table
from automl_nas.run import human, to_json_values
from automl_nas_benchmarks.one_shot.outcomes import FeasibleTable, Outcome, agreement, mean_interval
from automl_nas_benchmarks.rank.search_outcomes import expected_maximum
from automl_nas_benchmarks.report_folder import write_files

BEST_OF = 10
"""Number of random networks, all trained, whose expected best is reported."""


@dataclass(frozen=True)
class Summary:
    """The results of a method on a space.

    Attributes:
        space: label.
        method: label.
        seeds: the seeds with a result.
        truth: mean true value of the derived networks; None if no network has one.
        low: lower end of its 95 % interval by Student's t; NaN for one seed.
        high: upper end.
        rank: median rank of the derived networks.
        agreement: share of decisions that two seeds share, mean over pairs; None for one seed.
        images: mean number of images that went forward.
        processor_seconds: mean.
        seconds: mean, on the clock.
    """

    space: str
    method: str
    seeds: tuple[int, ...]
    truth: float | None
    low: float
    high: float
    rank: float | None
    agreement: float | None
    images: float
    processor_seconds: float
    seconds: float


@dataclass(frozen=True)
class Report:
    """All results.

    Attributes:
        outcomes: of the complete runs.
        tables: label of a space -> the networks of its table that meet the limits of its methods.
        failed: directory of a run -> why it failed.
        missing: number of runs that are not complete.
    """

    outcomes: Sequence[Outcome]
    tables: Mapping[str, FeasibleTable]
    failed: Mapping[str, str]
    missing: int

    @property
    def summaries(self) -> list[Summary]:
        """A summary of each method on each space, in the order of the configuration."""
        groups: dict[tuple[str, str], list[Outcome]] = {}
        for each in self.outcomes:
            groups.setdefault((each.cell.space, each.cell.method), []).append(each)
        return [_summary(space, method, group) for (space, method), group in groups.items()]


def _summary(space: str, method: str, group: Sequence[Outcome]) -> Summary:
    truths = [each.truth for each in group if each.truth is not None]
    ranks = [each.rank for each in group if each.rank is not None]
    mean, low, high = mean_interval(truths) if truths else (None, math.nan, math.nan)
    return Summary(
        space,
        method,
        tuple(each.cell.seed for each in group),
        mean,
        low,
        high,
        float(np.median(ranks)) if ranks else None,
        agreement(group),
        float(np.mean([each.work.images for each in group])),
        float(np.mean([each.work.processor_seconds for each in group])),
        float(np.mean([each.work.seconds for each in group])),
    )


def random_networks(feasible: FeasibleTable) -> dict[str, float]:
    """Return what choosing at random gives, computed from the whole table.

    Returns:
        ``mean`` and ``deviation`` of the true value of a random network, the expected best of `BEST_OF` that are all
        trained, and the ``optimum``.
    """
    truths = feasible.truths
    return {
        "networks": len(truths),
        "mean": float(truths.mean()),
        "deviation": float(truths.std()),
        f"best_of_{BEST_OF}": expected_maximum(truths, BEST_OF),
        "optimum": float(truths[-1]),
    }


def write_report(report: Report, folder: Path, *, plots: bool = True) -> list[Path]:
    """Write ``one_shot.json``, ``one_shot.csv``, ``history.csv`` and, where matplotlib is installed, ``history.png``.

    Raises:
        RunFailedError: the folder cannot be written.
    """
    from automl_nas_benchmarks.one_shot.plot import history_plot

    contents = {
        "one_shot.json": json.dumps(as_json(report), indent=1).encode() + b"\n",
        "one_shot.csv": _csv(_rows(report.outcomes)),
        "history.csv": _csv(_history_rows(report.outcomes)),
    }
    files = write_files(folder, contents)
    image = history_plot(report.outcomes) if plots else None
    return files if image is None else [*files, *write_files(folder, {"history.png": image})]


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON values; numbers that do not exist are null."""
    content = {
        "methods": [asdict(summary) for summary in report.summaries],
        "random_networks": {label: random_networks(feasible) for label, feasible in report.tables.items()},
        "runs": [asdict(each) for each in report.outcomes],
        "failed": dict(report.failed),
        "missing": report.missing,
    }
    values: dict[str, Any] = to_json_values(content)
    return values


def as_text(report: Report) -> list[str]:
    """Return the report as lines for a terminal."""
    lines: list[str] = []
    for label, feasible in report.tables.items():
        chance = random_networks(feasible)
        lines += [
            f"{label}: {feasible.benchmark.name}, {chance['networks']:,} networks meet the limits; one at random has "
            f"{chance['mean']:.2f} (standard deviation {chance['deviation']:.2f}), the best of {BEST_OF} random ones "
            f"{chance[f'best_of_{BEST_OF}']:.2f}, the best of all {chance['optimum']:.2f}",
            "",
        ]
        header = ["method", "seeds", "true, mean [95 %]", "median rank", "agreement", "images", "processor s"]
        rows = [_row(each) for each in report.summaries if each.space == label]
        lines += table(header, rows) if rows else ["no run is complete"]
        runs = [each for each in report.outcomes if each.cell.space == label]
        if runs:
            derived = [
                [each.cell.method, str(each.cell.seed), each.code, _number(each.truth), str(each.rank or "unknown")]
                for each in runs
            ]
            lines += ["", *table(["method", "seed", "derived", "true", "rank"], derived), ""]
    lines += [f"failed: {directory}: {reason}" for directory, reason in report.failed.items()]
    if report.missing:
        lines.append(f"{report.missing} runs are not complete")
    return lines


def _row(each: Summary) -> list[str]:
    interval = "" if math.isnan(each.low) else f" [{each.low:.2f}, {each.high:.2f}]"
    return [
        each.method,
        str(len(each.seeds)),
        _number(each.truth) + interval,
        "unknown" if each.rank is None else f"{each.rank:g}",
        "-" if each.agreement is None else f"{each.agreement:.2f}",
        human(each.images),
        f"{each.processor_seconds:.0f}",
    ]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _rows(outcomes: Sequence[Outcome]) -> Iterable[Sequence[object]]:
    yield ["space", "method", "seed", "derived", "truth", "rank", "trials", "images", "processor_seconds", "seconds"]
    for each in outcomes:
        work = each.work
        yield [
            *(each.cell.space, each.cell.method, each.cell.seed, each.code, each.truth, each.rank, each.trials),
            *(work.images, work.processor_seconds, work.seconds),
        ]


def _history_rows(outcomes: Sequence[Outcome]) -> Iterable[Sequence[object]]:
    yield ["space", "method", "seed", "share", "derived", "truth"]
    for each in outcomes:
        for moment in each.history:
            yield [each.cell.space, each.cell.method, each.cell.seed, moment.share, moment.code, moment.truth]


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
