"""The findings of a comparison as tables, text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from automl_nas.run import to_json_values
from automl_nas_benchmarks.comparison.findings import Arrival, Findings, Significance

Rows = tuple[list[str], list[list[str]]]
"""The header of a table, and its rows with one cell for each column."""


def percent(share: float) -> str:
    """Return a share formatted as ``98 %`` or ``0.1 %``."""
    return f"{100 * share:.3g} %"


def number(value: float) -> str:
    """Return a number with three significant digits; a dash for NaN."""
    if math.isnan(value):
        return "-"
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e3 else f"{value:.2e}"


def probability(p: float) -> str:
    """Return a formatted p-value; a dash for NaN."""
    if math.isnan(p):
        return "-"
    return "< 1e-10" if p < 1e-10 else f"{p:.2g}"


def scores_table(findings: Findings, benchmark: str) -> Rows:
    """Return the table of one benchmark, a row for each strategy, in the order of the configuration."""
    top = findings.scores[0].arrivals
    header = ["strategy", "regret", "mean rank"]
    if findings.several:
        header.insert(1, "missed hypervolume")
    header += [f"to top {percent(item.share)}" for item in top] + ["ms/proposal"]
    rows = []
    for strategy in findings.strategies:
        score = findings.score(strategy, benchmark)
        regret = "no result" if score.empty else f"{score.regret:.3f} ± {_decimals(score.deviation)}"
        row = [strategy, regret, f"{score.mean_rank:.2f}"]
        if findings.several:
            missed = f"{score.missed:.4f} ± {_decimals(score.missed_deviation, 4)}"
            row.insert(1, "no result" if score.empty else missed)
        row += [arrival_text(item, findings.evaluations) for item in score.arrivals]
        row.append(number(1e3 * score.proposal_seconds))
        rows.append(row)
    return header, rows


def shortcomings(findings: Findings, benchmark: str) -> list[str]:
    """Return a sentence for each strategy with failed evaluations or searches without a result on a benchmark."""
    lines = []
    for strategy in findings.strategies:
        score = findings.score(strategy, benchmark)
        parts = []
        if score.without_result:
            counted = "" if score.empty else ", which count as the worst feasible network"
            parts.append(
                f"{score.without_result:,} of {score.searches:,} searches evaluated no feasible network{counted}"
            )
        if score.failed:
            parts.append(f"{score.failed:,} of {score.evaluations:,} evaluations failed (the first: {score.error})")
        if parts:
            lines.append(f"{strategy}: {'; '.join(parts)}")
    return lines


def ranks_table(findings: Findings) -> Rows:
    """Return mean ranks, over all blocks and on each benchmark."""
    header = ["strategy", "all benchmarks", *findings.benchmarks]
    rows = [
        [
            strategy,
            f"{findings.mean_ranks[strategy]:.2f}",
            *(f"{findings.score(strategy, name).mean_rank:.2f}" for name in findings.benchmarks),
        ]
        for strategy in findings.strategies
    ]
    return header, rows


def pairs_table(findings: Findings, test: Significance) -> Rows:
    """Return the table of the pairwise tests of a scope."""
    header = ["first", "second", "first better", "second better", "Wilcoxon p", "Holm"]
    rows = [
        [
            findings.strategies[pair.first],
            findings.strategies[pair.second],
            str(pair.wins),
            str(pair.losses),
            probability(pair.p),
            probability(pair.adjusted),
        ]
        for pair in test.pairs
    ]
    return header, rows


def arrival_text(arrival: Arrival, evaluations: int) -> str:
    """Return ``36 / 54 (98 %)``: median / upper quartile, and the share of searches that arrive."""

    def formatted(time: int | None) -> str:
        return f">{evaluations}" if time is None else str(time)

    return f"{formatted(arrival.median)} / {formatted(arrival.upper)} ({percent(arrival.arrived)})"


def text(findings: Findings) -> list[str]:
    """Return the whole comparison as lines for a terminal."""
    from automl_nas.cli import table

    lines = []
    for name in findings.benchmarks:
        count, best = findings.functions[name]
        tops = ", ".join(f"top {percent(share)}: {functions}" for share, functions in best.items())
        lines += [f"{name} ({count:,} different networks; {tops})"]
        lines += [*table(*scores_table(findings, name), indent="  ")]
        lines += [*(f"  {line}" for line in shortcomings(findings, name)), ""]
    lines.append(
        f"{findings.seeds} searches of {findings.evaluations} evaluations each; regret: mean ± standard deviation; to "
        "top: distinct evaluations, median / upper quartile (share that arrives)"
    )
    if findings.tests:
        lines += ["", *table(*ranks_table(findings))]
        lines += ["", *verdict(findings, findings.tests[0]), "", *table(*pairs_table(findings, findings.tests[0]))]
    return lines


def compared_quantity(findings: Findings) -> str:
    """Return a description of the quantity that ranks and tests compare."""
    if findings.judge == "arrival":
        return f"how soon the top {percent(findings.scores[0].arrivals[-1].share)} is reached"
    what = "the share of the best hypervolume that is missed" if findings.several else "the share of better networks"
    return f"{what} at the end" if findings.judge == "final" else f"{what}, averaged over evaluations"


def verdict(findings: Findings, test: Significance) -> list[str]:
    """Return the results of the tests of a scope as lines of text."""
    friedman = test.friedman
    lines = [
        f"{test.scope}, compared: {compared_quantity(findings)}",
        f"{friedman.blocks:,} blocks (benchmark x seed): Friedman chi2 {friedman.chi2:.4g}, "
        f"p {probability(friedman.chi2_p)}; "
        f"critical difference of mean ranks {test.difference:.3g} (Nemenyi, {findings.alpha:g})",
    ]
    if friedman.chi2_p > findings.alpha:
        lines.append("the strategies do not differ significantly")
    elif test.groups:
        joined = "; ".join(", ".join(group) for group in test.groups)
        lines.append(f"mean ranks without a significant difference: {joined}")
    else:
        lines.append("the mean ranks of all strategies differ significantly")
    return lines


def scores_csv(findings: Findings) -> str:
    """Return CSV with a line for each benchmark and strategy; quantiles of arrivals that do not exist are empty."""
    header = ["benchmark", "strategy", "searches", "evaluations", "regret_mean", "regret_std", "regret_median"]
    header += ["missed_hypervolume_mean", "missed_hypervolume_std", "loss_mean", "loss_std", "mean_rank"]
    for item in findings.scores[0].arrivals:
        header += [f"top_{item.share:g}_{what}" for what in ("median", "upper_quartile", "arrived")]
    header += ["proposal_seconds", "late_proposal_seconds", "ended_early", "failed", "without_result"]
    rows = []
    for s in findings.scores:
        row: list[Any] = [s.benchmark, s.strategy, s.searches, findings.evaluations, s.regret, s.deviation, s.median]
        row += [s.missed, s.missed_deviation, s.loss, s.loss_deviation, s.mean_rank]
        for item in s.arrivals:
            row += [item.median, item.upper, item.arrived]
        rows.append([*row, s.proposal_seconds, s.late_seconds, s.ended_early, s.failed, s.without_result])
    return _csv(header, rows)


def pairs_csv(findings: Findings) -> str:
    """Return CSV with a line for each scope and pair of strategies."""
    header = ["scope", "first", "second", "first_better", "second_better", "wilcoxon_p", "holm_p"]
    names = findings.strategies
    rows = [
        [test.scope, names[pair.first], names[pair.second], pair.wins, pair.losses, pair.p, pair.adjusted]
        for test in findings.tests
        for pair in test.pairs
    ]
    return _csv(header, rows)


def curves_csv(findings: Findings) -> str:
    """Return CSV with the statistics of all curves, a line for each benchmark, strategy and evaluation."""
    rows = []
    for curve in findings.curves:
        columns = (curve.median, *curve.quartiles(), curve.mean, curve.deviation)
        for step, values in enumerate(zip(*columns, strict=True), start=1):
            rows.append([curve.benchmark, curve.strategy, step, *map(float, values)])
    header = ["benchmark", "strategy", "evaluations", "median", "lower_quartile", "upper_quartile", "mean", "std"]
    return _csv(header, rows)


def to_json(findings: Findings) -> dict[str, Any]:
    """Return the findings without the curves as JSON values: null for numbers that do not exist."""
    content = {
        "strategies": list(findings.strategies),
        "benchmarks": list(findings.benchmarks),
        "seeds": findings.seeds,
        "evaluations": findings.evaluations,
        "judge": findings.judge,
        "alpha": findings.alpha,
        "scores": [asdict(score) for score in findings.scores],
        "mean_ranks": dict(findings.mean_ranks),
        "tests": [
            {
                **asdict(test),
                "pairs": [
                    {**asdict(p), "first": findings.strategies[p.first], "second": findings.strategies[p.second]}
                    for p in test.pairs
                ],
            }
            for test in findings.tests
        ],
        "functions": {
            name: {"distinct": count, "top": {f"{share:g}": best for share, best in tops.items()}}
            for name, (count, tops) in findings.functions.items()
        },
    }
    json_values: dict[str, Any] = to_json_values(content)
    return json_values


def _decimals(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if x is None or x != x else x for x in row] for row in rows])
    return buffer.getvalue()
