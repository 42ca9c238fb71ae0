"""What a run found, as text: networks with their costs and test metrics, comparisons, files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automl_nas.cli.text import architecture, cost, measured, table


def summary(directory: Path, result: Mapping[str, Any]) -> list[str]:
    """Return the lines that say what a complete run found.

    Args:
        directory: the run directory.
        result: what ``result.json`` holds.
    """
    lines = []
    if result["architecture"] is None:
        lines.append("no feasible network was found")
    else:
        lines += ["found architecture:", architecture(result["architecture"], "  ")]
    units: Mapping[str, str] = next(
        (stage.get("units", {}) for stage in result["stages"] if stage["name"] == result["stage"]), {}
    )
    final = result["final"]
    if final is not None:
        lines += ["", *_networks(final, units), "", *(_comparison(item, final) for item in final["comparison"])]
        if any(row["measured"] for row in final.get("budget", ())):
            lines += ["", *_budget(final["budget"])]
        lines += [
            "",
            "exported:" if final["files"] else "exported: nothing",
            *(f"  {directory / name}" for name in final["files"]),
            *(f"not exported as {item['format']}: {item['error']}" for item in final.get("not_exported", ())),
        ]
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


def _networks(final: Mapping[str, Any], units: Mapping[str, str]) -> list[str]:
    metric, repeated = final["metric"], final["settings"]["seeds"] > 1
    costs = list(final["networks"][0]["costs"])
    header = ["network", *costs, f"test {metric} [95 % interval]"]
    rows = [["", *(units.get(name, "") for name in costs), ""]] if any(units.get(name) for name in costs) else []
    for number, network in enumerate(final["networks"]):
        role = (
            network["role"]
            + (f", seed {network['seed']}" if repeated else "")
            + (" *" if number == final["chosen"] else "")
        )
        test = "diverged" if "failed" in network else "not tested"
        if "test" in network:
            test = measured(network["test"][metric], network["test_interval"].get(metric))
        rows.append([role, *(cost(network["costs"][name]) for name in costs), test])
    return [*table(header, rows), "* delivered"]


def _budget(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return limit, predicted, measured, margin and verdict of each cost that is limited."""
    header = ["cost", "limit", "predicted", "measured", "exported file", "margin", ""]
    lines = []
    for row in rows:
        found = [row["measured"], row["exported"]]
        values = ["" if item is None else measured(item["value"], (item["low"], item["high"])) for item in found]
        verdict = "pass" if row["met"] else "FAIL"
        lines.append(
            [
                f"{row['cost']} ({row['unit']})",
                row["limit"],
                cost(row["predicted"]),
                *values,
                f"{row['margin']:+.1%}",
                verdict,
            ]
        )
    return table(header, lines)


def _comparison(item: Mapping[str, Any], final: Mapping[str, Any]) -> str:
    network = final["networks"][item["network"]]
    other = network["role"] + (f", seed {network['seed']}" if final["settings"]["seeds"] > 1 else "")
    text = f"found - {other}: {final['metric']} {item['difference']:+.4f}"
    if "interval" not in item:
        return f"{text}; no interval is known for this metric, so it cannot be told from noise"
    low, high = item["interval"]
    verdict = "exceeds the noise" if item["exceeds_noise"] else "does not exceed the noise"
    return f"{text}, 95 % interval [{low:+.4f}, {high:+.4f}]: {verdict}"
