"""The report of a ranking study: text for the terminal, JSON, CSV, and a scatter plot."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from automl_nas.cli import table
from automl_nas.run import to_json_values
from automl_nas_benchmarks.rank.analysis import Finding, Lead, by_part, findings, leads
from automl_nas_benchmarks.rank.baselines import FreeTau, free_taus
from automl_nas_benchmarks.rank.search_outcomes import Pick, picks
from automl_nas_benchmarks.rank.study import Sample, Study
from automl_nas_benchmarks.report_folder import write_files


@dataclass(frozen=True, eq=False)
class Report:
    """All results of a study.

    Attributes:
        sample: the scored networks.
        findings: the values of all measures of all predictors.
        leads: the leads of trained predictors over trivial ones.
        free: the trivial predictors over all networks of the table.
        parts: name of a predictor -> Kendall's tau in each tenth of the sample by cost, the cheapest first.
        picks: the networks that searches chose.
        about: the benchmark, the runs and their seeds.
    """

    sample: Sample
    findings: Sequence[Finding]
    leads: Sequence[Lead]
    free: Sequence[FreeTau]
    parts: Mapping[str, Sequence[float]]
    picks: Sequence[Pick]
    about: Mapping[str, Any]


def make_report(study: Study, *, top: Sequence[int], resamples: int) -> Report:
    """Compute the results of a study. A thousand resamples of a few hundred networks take a minute.

    Args:
        study: complete runs and their benchmark.
        top: the values of k for precision at k and best rank at k.
        resamples: number of resamples of the bootstrap.

    Raises:
        DataError: too few networks have scores and a true value.
    """
    sample = study.sample()
    return Report(
        sample=sample,
        findings=findings(sample, top=top, resamples=resamples),
        leads=leads(sample, resamples=resamples),
        free=free_taus(study.benchmark),
        parts={predictor.name: by_part(sample, predictor) for predictor in sample.predictors},
        picks=picks(study),
        about={
            "benchmark": study.benchmark.name,
            "networks": len(sample),
            "left_out": sample.left_out,
            "runs": [str(run.directory) for run in study.runs],
            "seeds": [run.plan.seed for run in study.runs],
            "resamples": resamples,
        },
    )


def write_report(report: Report, folder: Path, *, plots: bool = True) -> list[Path]:
    """Write ``ranking.json``, ``ranking.csv``, ``scores.csv`` and, where matplotlib is installed, ``ranking.png``.

    Args:
        report: the results.
        folder: the folder; created if needed.
        plots: whether to draw the plot.

    Raises:
        RunFailedError: the folder cannot be written.
    """
    from automl_nas_benchmarks.rank.plot import scatter

    contents = {
        "ranking.json": json.dumps(as_json(report), indent=1).encode() + b"\n",
        "ranking.csv": _table(_csv_rows(report.findings)),
        "scores.csv": _table(_score_rows(report.sample)),
    }
    files = write_files(folder, contents)
    image = scatter(report.sample) if plots else None
    return files if image is None else [*files, *write_files(folder, {"ranking.png": image})]


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON values; numbers that do not exist are null."""
    content = {
        **report.about,
        "findings": [asdict(finding) for finding in report.findings],
        "leads": [asdict(lead) for lead in report.leads],
        "free_predictors_on_all_networks": [asdict(each) for each in report.free],
        "tau_in_tenths": {name: list(values) for name, values in report.parts.items()},
        "picks": [
            {**asdict(pick), "random": {str(k): best for k, best in pick.random.items()}} for pick in report.picks
        ],
    }
    json_values: dict[str, Any] = to_json_values(content)
    return json_values


def as_text(report: Report) -> list[str]:
    """Return the report as lines for a terminal."""
    about = report.about
    lines = [
        f"{about['networks']} networks of {about['benchmark']}, {_count(len(about['seeds']), 'run')} "
        f"(seeds {', '.join(map(str, about['seeds']))}); mean, 95 % bootstrap interval"
    ]
    if about["left_out"]:
        lines.append(f"{_count(about['left_out'], 'network')} left out: not scored everywhere, or without a true value")
    columns = list(dict.fromkeys((finding.scope, finding.measure) for finding in report.findings))
    cells = {(f.predictor, f.scope, f.measure): _interval(f.value, f.low, f.high) for f in report.findings}
    for scope in dict.fromkeys(scope for scope, _ in columns):
        measures = [measure for where, measure in columns if where == scope]
        rows = []
        for predictor in report.sample.predictors:
            name = predictor.name + (" (free)" if predictor.trivial else "")
            rows.append([name, *(cells[predictor.name, scope, measure] for measure in measures)])
        lines += ["", *table([scope, *measures], rows)]
    ahead: dict[tuple[str, str], list[str]] = {}
    for lead in report.leads:
        ahead.setdefault((lead.predictor, lead.over), []).append(_interval(lead.value, lead.low, lead.high))
    if ahead:
        header = ["ahead in kendall_tau", "of", *dict.fromkeys(lead.scope for lead in report.leads)]
        lines += ["", *table(header, [[*names, *cells] for names, cells in ahead.items()], left=2)]
    if report.free:
        header = [f"kendall_tau on all {report.free[0].networks}", "overall", "true top half", "within tenths"]
        cells_of_all = [
            [each.predictor, *(f"{tau:.3f}" for tau in (each.overall, each.top_half, each.within))]
            for each in report.free
        ]
        lines += ["", *table(header, cells_of_all)]
    if report.picks:
        lines += ["", *_picks(report.picks)]
    return lines


def _picks(chosen: Sequence[Pick]) -> list[str]:
    numbers = list(chosen[0].random)
    rules = list(chosen[0].free)
    header = ["search", "seed", "limit", "choice", "true", "rank", "worth"]
    header += [*(f"best of {k}" for k in numbers), *rules, "optimum"]
    rows = []
    for pick in chosen:
        rows.append(
            [
                pick.stage,
                str(pick.seed),
                "; ".join(pick.limits) or "none",
                pick.code,
                "unknown" if pick.truth is None else f"{pick.truth:.2f}",
                f"{pick.rank or '?'} of {pick.feasible}",
                f"{pick.worth or '?'} random",
                *(f"{pick.random[k]:.2f}" if k in pick.random else "" for k in numbers),
                *(f"{pick.free[rule]:.2f}" for rule in rules),
                f"{pick.optimum:.2f}",
            ]
        )
    return table(header, rows, left=4)


def _interval(value: float, low: float, high: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _csv_rows(results: Sequence[Finding]) -> Iterable[Sequence[object]]:
    yield ["predictor", "trivial", "scope", "networks", "measure", "value", "low", "high"]
    for f in results:
        yield [f.predictor, f.trivial, f.scope, f.networks, f.measure, f.value, f.low, f.high]


def _score_rows(sample: Sample) -> Iterable[Sequence[object]]:
    columns = [
        (f"{predictor.name}_{number}" if len(predictor.scores) > 1 else predictor.name, row)
        for predictor in sample.predictors
        for number, row in enumerate(predictor.scores, start=1)
    ]
    yield ["code", "truth", *(name for name, _ in columns)]
    for place, code in enumerate(sample.codes):
        yield [code, sample.truth[place], *(row[place] for _, row in columns)]


def _table(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
