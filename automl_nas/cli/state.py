"""How far a run is, read from its files alone: nothing is locked, changed or executed, and torch is not needed."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Damage, Ledger
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial


@dataclass(frozen=True)
class StageState:
    """One stage.

    Attributes:
        name: of the stage; ``final`` is the last one of a run that retrains.
        state: ``done``, ``running``, ``interrupted`` or ``waiting``.
        trials: recorded ones, by number.
        budget: how many trials it may make; None: no such limit.
        problem: ranks them.
        limits: constraint on what -> limit, as written.
        logged: the last line it logged; empty if there is none.
    """

    name: str
    state: str
    trials: Sequence[Trial]
    budget: int | None
    problem: Problem
    limits: Mapping[str, str]
    logged: Mapping[str, Any]

    @property
    def states(self) -> dict[str, int]:
        """How many trials are complete, pruned, failed; and how many of the complete ones miss a constraint."""
        counts = Counter(trial.state.value for trial in self.trials)
        missed = sum(trial.state.value == "complete" and not trial.feasible for trial in self.trials)
        return dict(sorted(counts.items())) | ({"infeasible": missed} if missed else {})


@dataclass(frozen=True)
class RunState:
    """A run.

    Attributes:
        directory: where it is.
        status: ``complete``, ``running`` or ``interrupted``.
        holder: the process that works on it; empty if none does.
        stages: all of them, in order.
        current: the stage it is at; None when it is complete.
        evaluating: number of a trial that was begun and has no result -> how often it was begun.
        damage: damaged lines of the ledger.
        idle: seconds since anything was recorded.
        result: what ``result.json`` holds; None while the run is not complete.
    """

    directory: Path
    status: str
    holder: str
    stages: tuple[StageState, ...]
    current: StageState | None
    evaluating: Mapping[int, int]
    damage: Sequence[Damage]
    idle: float
    result: Mapping[str, Any] | None

    @property
    def leading(self) -> StageState:
        """The stage whose trials say most: the last one that has any, or the first one."""
        return next((stage for stage in reversed(self.stages) if stage.trials), self.stages[0])

    @classmethod
    def read(cls, path: Path) -> RunState:
        """Read a run directory, also one that is being worked on.

        Raises:
            RunDirectoryError: it is no run directory.
            DamagedError: ``result.json`` cannot be read.
        """
        directory = RunDirectory.open(path)
        config = directory.read_config()
        result = directory.read_result()
        locked = directory.locked
        status = "complete" if result is not None else "running" if locked else "interrupted"
        ledger = Ledger(directory.trials, writable=False)
        logged = _last_lines(directory.metrics)
        names = [stage["name"] for stage in config["stages"]] + (["final"] if config.get("final") is not None else [])
        seen = {trial.stage for trial in ledger.trials.values()} | logged.keys()
        seen |= {name for name in names if any((directory.artifacts / name).glob("*.json"))}
        at = max((position for position, name in enumerate(names) if name in seen), default=0)
        stages = []
        for position, name in enumerate(names):
            settings = config["stages"][position] if position < len(config["stages"]) else {}
            over = result is not None or position < at
            state = "done" if over else status if position == at else "waiting"
            stages.append(_stage(name, state, settings, config["problem"], ledger, logged.get(name, {})))
        return cls(
            directory.path,
            status,
            (directory.path / "lock").read_text(errors="replace").strip() if locked else "",
            tuple(stages),
            None if result is not None else stages[at],
            {number: attempts.started for number, attempts in sorted(ledger.attempts.items()) if attempts.started},
            ledger.damage,
            _idle(directory),
            result,
        )


def _stage(
    name: str,
    state: str,
    settings: Mapping[str, Any],
    top: Mapping[str, Any],
    ledger: Ledger,
    logged: Mapping[str, Any],
) -> StageState:
    own = settings.get("problem") or {}
    limits = {**top["constraints"], **own.get("constraints", {})}
    return StageState(
        name,
        state,
        [trial for _, trial in sorted(ledger.trials.items()) if trial.stage == name],
        (settings.get("budget") or {}).get("trials"),
        # Whether a constraint is met is recorded with each trial, so objectives are all that is needed to rank them.
        Problem(own.get("objectives") or top["objectives"]),
        {
            key: limit if isinstance(limit, str) else limit["limit"]
            for key, limit in limits.items()
            if limit is not None
        },
        logged,
    )


def _last_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Return stage -> the last whole line it logged."""
    found: dict[str, dict[str, Any]] = {}
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                # A line that a crash cut short, or that a disk damaged, is no reason to show nothing.
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    found[record["stage"]] = record
    return found


def _idle(directory: RunDirectory) -> float:
    files = [directory.config, directory.trials, directory.metrics, directory.result, *directory.checkpoints.glob("*")]
    return max(0.0, time.time() - max(file.stat().st_mtime for file in files if file.exists()))
