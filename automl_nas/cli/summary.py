"""The result of a run as text: networks with their costs and test metrics, comparisons, limits, exported files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.cli.text import architecture, table
from automl_nas.run.number_text import cost, measured

if TYPE_CHECKING:
    from automl_nas.evaluation.costs.measured import Measurement
    from automl_nas.evaluation.exporter import Conversion
    from automl_nas.run.final.delivered import DeliveredNetwork
    from automl_nas.run.final.report import BaselineComparison, FinalNetwork, FinalReport


def summary(directory: Path, result: Mapping[str, Any]) -> list[str]:
    """Return the lines that describe the result of a complete run.

    Args:
        directory: the run directory.
        result: the content of ``result.json``.
    """
    from automl_nas.run.final.report import FinalReport

    lines = []
    if result["architecture"] is None:
        lines.append("no feasible network was found")
    else:
        lines += ["found architecture:", architecture(result["architecture"], "  ")]
    units: Mapping[str, str] = next(
        (stage.get("units", {}) for stage in result["stages"] if stage["name"] == result["stage"]), {}
    )
    if result["final"] is not None:
        lines += ["", *_final(directory, FinalReport.from_json(result["final"]), units)]
    elif result["best"] is not None:
        best = result["best"]
        values = [f"{name} {measured(value)}" for name, value in best["metrics"].items()]
        values += [f"{name} {cost(value)} {units.get(name, '')}".rstrip() for name, value in best["costs"].items()]
        lines += ["", f"best trial ({best['number']} of stage '{result['stage']}'): {'; '.join(values)}"]
    if len(result["pareto"]) > 1:
        lines += [
            "",
            f"{len(result['pareto'])} networks are on the Pareto front; to list them: automl-nas show {directory}",
        ]
    return [line for before, line in zip([None, *lines], lines, strict=False) if line or before]


def _final(directory: Path, report: FinalReport, units: Mapping[str, str]) -> list[str]:
    lines = [*_networks(report, units), "", *(_comparison(item, report) for item in report.comparisons)]
    for delivered in report.deliveries:
        which = f"network {delivered.network}, " if report.others else ""
        if any(check.measured for check in delivered.limits):
            title = [f"network {delivered.network}:"] if report.others else []
            lines += ["", *title, *_limits(delivered)]
        lines += [
            "",
            f"{which}exported:" if delivered.files else f"{which}exported: nothing",
            *(f"  {directory / name}" for name in delivered.files),
            *(f"not exported as {failure.format}: {failure.error}" for failure in delivered.not_exported),
            *(f"note: {note}" for note in delivered.export_notes),
            *(line for each in delivered.conversions for line in ("", *conversion_lines(each))),
        ]
    return lines


def conversion_lines(conversion: Conversion) -> list[str]:
    """Return what was measured of a converted file and of its source, as a table."""
    rows = [
        [
            f"{value.name} ({value.unit})" if value.unit else value.name,
            *(
                f"{number:,.0f}" if value.unit == "bytes" else measured(number, interval)
                for number, interval in ((value.before, value.before_interval), (value.after, value.after_interval))
            ),
        ]
        for value in conversion.values
    ]
    return [f"{conversion.method}:", *table(["", conversion.source, conversion.file], rows)]


def _networks(report: FinalReport, units: Mapping[str, str]) -> list[str]:
    costs = list(report.networks[0].costs)
    delivered = {each.network: each.dominated_by for each in report.deliveries}
    header = ["network", *costs, f"test {report.metric} [95 % interval]"]
    rows = [["", *(units.get(name, "") for name in costs), ""]] if any(units.get(name) for name in costs) else []
    for position, network in enumerate(report.networks):
        label = _label(network, report)
        if report.others:
            label = f"{position}: {label}" + ("" if network.trial is None else f", trial {network.trial}")
        label += " *" if position in delivered else ""
        test = "diverged" if network.failed is not None else "not tested"
        if network.test is not None:
            value = network.test.get(report.metric)
            test = "not defined" if value is None else measured(value, network.test_interval.get(report.metric))
        rows.append([label, *(cost(network.costs[name]) if name in network.costs else "" for name in costs), test])
    notes = [
        f"after the training, network {other} is at least as good as network {position} in every objective"
        for position, other in delivered.items()
        if other is not None
    ]
    return [
        *table(header, rows),
        f"* delivered{'; the main one: ' + str(report.chosen) if report.others else ''}",
        *notes,
    ]


def _label(network: FinalNetwork, report: FinalReport) -> str:
    """Return the role of a network, with its repetition if the final stage trains each network more than once."""
    return network.role + (f", seed {network.seed}" if report.settings["seeds"] > 1 else "")


def _limits(delivered: DeliveredNetwork) -> list[str]:
    """Return limit, predicted and measured values, margin and verdict of each cost that is limited."""
    rows = [
        [
            f"{check.cost} ({check.unit})",
            check.limit,
            cost(check.predicted),
            _measurement(check.measured),
            _measurement(check.exported),
            f"{check.margin:+.1%}",
            "pass" if check.met else "FAIL",
        ]
        for check in delivered.limits
    ]
    return table(["cost", "limit", "predicted", "measured", "exported file", "margin", ""], rows)


def _measurement(measurement: Measurement | None) -> str:
    return "" if measurement is None else measured(measurement.value, (measurement.low, measurement.high))


def _comparison(comparison: BaselineComparison, report: FinalReport) -> str:
    baseline = _label(report.networks[comparison.network], report)
    text = f"found - {baseline}: {report.metric} {comparison.difference:+.4f}"
    if comparison.interval is None:
        return f"{text}; no interval is known for this metric, so the difference may be noise"
    low, high = comparison.interval
    verdict = "exceeds the noise" if comparison.exceeds_noise else "does not exceed the noise"
    return f"{text}, 95 % interval [{low:+.4f}, {high:+.4f}]: {verdict}"
