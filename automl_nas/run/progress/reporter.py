"""What every way of showing progress has: `ProgressReporter`, and the best trials so far."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from automl_nas.run.number_text import human

if TYPE_CHECKING:
    from automl_nas.plugin.events import Handlers, RunInfo
    from automl_nas.strategy.problem import Problem
    from automl_nas.strategy.trial import Trial

STOPPING = "stopping at the next safe point; Ctrl-C again stops at once"

MEMORY = 600.0
"""Seconds over which the speed is averaged: a step may take a minute, and the estimate needs several of them."""


def print_line(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


class ProgressReporter:
    """Shows warnings, a line each, and no progress. Its subclasses show more."""

    @property
    def handlers(self) -> Handlers:
        """The handlers of events, for `automl_nas.run.Session`."""
        return {}

    def warning(self, text: str) -> None:
        """Show a line. Warnings arrive through the log, see `automl_nas.cli.Logs`."""
        print_line(f"warning: {text}")


class BestTrials:
    """The best trial of each stage so far."""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}
        self._best: dict[str, Trial] = {}

    def start(self, run: RunInfo) -> None:
        """Begin with the trials that an earlier process recorded."""
        from automl_nas.run.record.ledger import finished_after
        from automl_nas.strategy.problem import Problem

        # Trials record whether they meet their constraints, so the objectives are enough to compare them.
        self._problems = {stage: Problem(objectives) for stage, objectives in run.objectives.items()}
        trials = finished_after(run.directory / "trials.jsonl", 0)[0] if run.resumed else []
        for stage, problem in self._problems.items():
            best = problem.best(trial for trial in trials if trial.stage == stage)
            if best is not None:
                self._best[stage] = best

    def add(self, trial: Trial) -> bool:
        """Take a finished trial into account; return whether it is the best one of its stage now."""
        problem = self._problems.get(trial.stage)
        if problem is None:
            return False
        before = self._best.get(trial.stage)
        best = problem.best([trial] if before is None else [before, trial])
        if best is None or best is before:
            return False
        self._best[trial.stage] = best
        return True

    def text(self, stage: str) -> str:
        """Return the best trial of a stage in words; empty before the first feasible one."""
        best = self._best.get(stage)
        if best is None:
            return ""
        values, objectives = best.values, self._problems[stage].objectives
        listed = ", ".join(f"{name} {human(values[name])}" for name in objectives if name in values)
        return f"best: {listed} (trial {best.number})"


def numbers_text(values: Mapping[str, float]) -> str:
    """Return the first two logged numbers in words."""
    return "  ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:2])
