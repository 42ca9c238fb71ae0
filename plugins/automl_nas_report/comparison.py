"""Several runs side by side: `Comparison`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.cli import table
from automl_nas.errors import ConfigurationError
from automl_nas.run import RunDirectory, RunState, duration, exact, human, measured
from automl_nas.strategy import Trial
from automl_nas_report.tallies import as_text

_SHARED = frozenset({"runtime", "executor", "observers", "checkpoint_seconds"})
"""Sections that do not describe what was searched; their differences come last."""

MOST_SETTINGS = 60
"""The largest number of settings that are listed."""


@dataclass(frozen=True)
class ComparedRun:
    """A run in a comparison.

    Attributes:
        label: its name, short and different from those of the other runs.
        state: of the run.
        settings: path in the configuration -> value as text.
        best: the best trial of its last stage with trials; None if no trial is feasible.
        test: metric -> test value of the delivered network; empty without a final stage.
        intervals: metric -> 95 % interval of the test value.
        costs: cost -> value of the delivered network, else of the best trial; None: unknown.
    """

    label: str
    state: RunState
    settings: Mapping[str, str]
    best: Trial | None
    test: Mapping[str, float]
    intervals: Mapping[str, Sequence[float]]
    costs: Mapping[str, float | None]

    @property
    def trials(self) -> int:
        """The number of trials of all stages."""
        return sum(len(stage.trials) for stage in self.state.stages)

    @property
    def seconds(self) -> float:
        """The time spent on evaluations."""
        return sum(trial.seconds for stage in self.state.stages for trial in stage.trials)

    @property
    def objective(self) -> tuple[str, str]:
        """The main objective of the last stage with trials, and its direction."""
        return next(iter(self.state.leading.problem.objectives.items()))

    @classmethod
    def read(cls, path: Path, label: str) -> ComparedRun:
        """Read a run directory."""
        config, state = RunDirectory.open(path).read_config(), RunState.read(path)
        best = state.leading.problem.best(state.leading.trials)
        final = None if state.result is None else state.result["final"]
        delivered = {} if final is None else final["networks"][final["chosen"]]
        costs = delivered.get("costs") or ({} if best is None else best.costs)
        return cls(
            label,
            state,
            dict(_flat(config)),
            best,
            delivered.get("test") or {},
            delivered.get("test_interval") or {},
            {name: None if value is None or not math.isfinite(value) else value for name, value in costs.items()},
        )


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: in the order in which they were named.
    """

    runs: tuple[ComparedRun, ...]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Comparison:
        """Read run directories.

        Raises:
            ConfigurationError: a directory is named twice.
            RunDirectoryError: a path is not a run directory.
            DamagedError: a file of a run is damaged.
        """
        resolved = [path.resolve() for path in paths]
        for position, path in enumerate(resolved):
            if path in resolved[:position]:
                raise ConfigurationError(f"the run {paths[position]} is named twice")
        return cls(tuple(ComparedRun.read(*pair) for pair in zip(paths, _labels(resolved), strict=True)))

    @property
    def metrics(self) -> list[str]:
        """The test metrics of all runs."""
        return list(dict.fromkeys(name for run in self.runs for name in run.test))

    @property
    def costs(self) -> list[str]:
        """The costs of all runs."""
        return list(dict.fromkeys(name for run in self.runs for name in run.costs))

    @property
    def differences(self) -> dict[str, list[str]]:
        """Setting -> its value in each run, for settings that differ; empty where a run does not have it."""
        names = dict.fromkeys(name for run in self.runs for name in run.settings)
        values = {name: [run.settings.get(name, "") for run in self.runs] for name in names}
        differing = [name for name in names if len(set(values[name])) > 1]
        differing.sort(key=lambda name: name.partition(".")[0] in _SHARED)
        return {name: values[name] for name in differing}

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Return header and rows of the table: a row for each run."""
        header = ["run", "status", "trials", "best trial"]
        header += [*self.costs, *(f"test {name}" for name in self.metrics), "evaluations"]
        rows = []
        for run in self.runs:
            metric = run.objective[0]
            value = None if run.best is None else run.best.values.get(metric)
            row = [run.label, run.state.status, exact(run.trials)]
            row.append("" if value is None else f"{metric} {human(value)}")
            for name in self.costs:
                cost = run.costs.get(name)
                row.append("" if cost is None else human(cost))
            for name in self.metrics:
                row.append(measured(run.test[name], run.intervals.get(name)) if name in run.test else "")
            rows.append([*row, duration(run.seconds)])
        return header, rows

    def as_text(self) -> list[str]:
        """Return the lines that a terminal shows."""
        header, rows = self.rows()
        lines = table(header, rows, left=2)
        differences = self.differences
        if differences:
            shown = list(differences)[:MOST_SETTINGS]
            labels = [run.label for run in self.runs]
            lines += ["", "settings that differ:"]
            lines += table(
                ["setting", *labels],
                [[name, *(_cut(value) for value in differences[name])] for name in shown],
                left=len(labels) + 1,
                indent="  ",
            )
            if len(differences) > len(shown):
                lines.append(f"  and {len(differences) - len(shown)} more")
        else:
            lines += ["", "the runs have the same settings"]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "runs": [
                {
                    "directory": str(run.state.directory),
                    "label": run.label,
                    "status": run.state.status,
                    "trials": run.trials,
                    "objective": run.objective[0],
                    "best": None if run.best is None else _finite(run.best.values.get(run.objective[0])),
                    "costs": dict(run.costs),
                    "test": dict(run.test),
                    "test_interval": {name: list(interval) for name, interval in run.intervals.items()},
                    "seconds": run.seconds,
                }
                for run in self.runs
            ],
            "differences": self.differences,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return for each path as many of its last parts as it takes to differ from the others."""
    labels = []
    for path in paths:
        others = [other for other in paths if other != path]
        for count in range(1, len(path.parts) + 1):
            tail = path.parts[-count:]
            if all(other.parts[-count:] != tail for other in others):
                break
        labels.append("/".join(tail))
    return labels


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Return path -> value as text of all entries of plain data; items of lists with a name are named by it."""
    items: list[tuple[str, Any]]
    if isinstance(value, Mapping) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [
            (str(item.get("name", position)) if isinstance(item, Mapping) else str(position), item)
            for position, item in enumerate(value)
        ]
    else:
        return [(path, as_text(value))]
    return [pair for key, item in items for pair in _flat(item, f"{path}.{key}" if path else key)]


def _cut(value: str) -> str:
    value = " ".join(value.split())
    return value if len(value) <= 40 else f"{value[:37]}..."
