"""The observer ``csv``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from automl_nas.run import RunDirectory, logged_numbers, recorded_after, write_text
from automl_nas.strategy import Trial
from automl_nas_report.periodic import RecordFollower


@final
class CSVObserver(RecordFollower):
    """Writes trials and logged numbers as CSV files, for spreadsheets and pandas.

    ``trials.csv`` has a row for each trial: number, stage, state, whether it is feasible, fidelity, seconds, time of
    the record, error, and ``metrics.NAME``, ``costs.NAME`` and ``architecture.DECISION``. ``metrics.csv`` has a row for
    each line of logged numbers: stage, step and the numbers. Each file is replaced as a whole, so that a reader never
    sees a part of it; an empty cell is a value that the row does not have, or that is not finite.

    Args:
        folder: for the two files; None: ``csv`` in the run directory.
        every: seconds between two copies; the last one is made when the run ends or is interrupted.
    """

    def __init__(self, *, folder: str | None = None, every: float = 10.0) -> None:
        super().__init__(folder, every, "csv")

    def begin(self, run: Path, resumed: bool) -> None:
        """See `RecordFollower.begin`."""

    def follow(self, run: Path) -> None:
        """See `RecordFollower.follow`."""
        directory = RunDirectory(run)
        trials, _ = recorded_after(directory.trials, 0)
        latest = {trial.number: (trial, at) for trial, at in trials}
        _write(self.folder / "trials.csv", (_row(*latest[number]) for number in sorted(latest)))
        lines = (line for line in logged_numbers(directory.metrics) if isinstance(line, dict))
        _write(self.folder / "metrics.csv", lines)


def _row(trial: Trial, at: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": trial.number,
        "stage": trial.stage,
        "state": trial.state.value,
        "feasible": trial.feasible,
        "fidelity": trial.fidelity,
        "seconds": trial.seconds,
        "recorded": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
        "error": trial.error,
    }
    for prefix, values in (("metrics", trial.metrics), ("costs", trial.costs), ("architecture", trial.architecture)):
        row |= {f"{prefix}.{name}": value for name, value in values.items()}
    return row


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows with the columns that any of them has."""
    listed = [dict(row) for row in rows]
    columns = list(dict.fromkeys(name for row in listed for name in row))
    groups = {"metrics": 1, "costs": 2, "architecture": 3}
    columns.sort(key=lambda name: groups.get(name.partition(".")[0], 0))  # stable: rows may begin with different names
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in listed)
    # A name that was not UTF-8 has surrogates, which no file in UTF-8 can hold.
    write_text(path, text.getvalue().encode("utf-8", "replace").decode())


def _cell(value: Any) -> Any:
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return ""
    if isinstance(value, bool | list | tuple):
        return json.dumps(value)
    return "" if value is None else value
