"""The numbers that stages logged, as lines of charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Points = dict[str, list[tuple[float, float]]]

HELD_OUT = "held_out_"
"""The beginning of the names of numbers on the held-out split."""

TRAIN = "train_"

_NOT_DRAWN = frozenset({"stage", "step", "network", "epoch"})

MOST_CHARTS = 12
"""The largest number of charts of a stage."""


def logged_lines(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, tuple[str, Points]]]:
    """Return stage -> title of a chart -> title of its x axis, and line -> points.

    Numbers of training and held-out data with the same name are in one chart, over epochs; all others are over steps.
    Numbers of several networks are separate lines, whose steps are counted from the start of each.
    """
    stages: dict[str, dict[str, tuple[str, Points]]] = {}
    last: dict[str, tuple[object, float, float]] = {}
    for record in records:
        charts = stages.setdefault(record["stage"], {})
        step = _from_start(record, last)
        network = f" of network {record['network']:g}" if isinstance(record.get("network"), int | float) else ""
        for name, value in record.items():
            if name in _NOT_DRAWN or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            title, line, x_name, x = name, name, "step", step
            for prefix, words in ((TRAIN, "training"), (HELD_OUT, "held out")):
                if name.startswith(prefix) and isinstance(record.get("epoch"), int | float):
                    title, line = f"{name.removeprefix(prefix)}, training and held out", words
                    x_name, x = "epoch", record["epoch"]
            if isinstance(x, int | float) and (title in charts or len(charts) < MOST_CHARTS):
                _, points = charts.setdefault(title, (x_name, {}))
                points.setdefault(line + network, []).append((float(x), float(value)))
    return stages


def _from_start(record: Mapping[str, Any], last: dict[str, tuple[object, float, float]]) -> float | None:
    """Return the step of a record, counted from the start of its network.

    Args:
        record: a line of logged numbers.
        last: stage -> network, its first step, and the last step, which are updated.
    """
    step, network, stage = record.get("step"), record.get("network"), record["stage"]
    if not isinstance(step, int | float):
        return None
    before = last.get(stage, (network, 0.0, 0.0))
    start = before[1] if before[0] == network else before[2]
    last[stage] = (network, start, step)
    return float(step - start)
