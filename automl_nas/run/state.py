"""The state of a run, read from its files alone: nothing is locked, changed or executed, and torch is not imported."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.errors import DamagedError
from automl_nas.run.hints import way_to_resume
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Damage, Ledger
from automl_nas.run.record.logged_numbers import logged_numbers
from automl_nas.run.record.whole_ledger import missing_trials
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial


@dataclass(frozen=True)
class StageState:
    """The state of a stage.

    Attributes:
        name: of the stage; ``final`` is the last stage of a run that retrains.
        state: ``done``, ``running``, ``interrupted`` or ``waiting``.
        trials: the recorded trials, by number.
        budget: maximum number of trials; None: unlimited.
        problem: ranks the trials.
        limits: metric or cost -> limit, as written.
        logged: the last line of logged numbers; empty if nothing was logged.
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
        """State -> number of trials; ``infeasible`` counts the complete ones that violate a constraint."""
        counts = Counter(trial.state.value for trial in self.trials)
        missed = sum(trial.state.value == "complete" and not trial.feasible for trial in self.trials)
        return dict(sorted(counts.items())) | ({"infeasible": missed} if missed else {})


@dataclass(frozen=True)
class RunState:
    """The state of a run.

    Attributes:
        directory: the run directory.
        status: ``complete``, ``running`` or ``interrupted``.
        holder: the process that works on the run; empty if no process works on it.
        stages: all stages, in order.
        current: the present stage; None if the run is complete.
        evaluating: number of an unfinished trial -> number of times that its evaluation was begun.
        damage: damaged parts of the ledger and of the logged numbers.
        idle: seconds since the last change of a file.
        result: the content of ``result.json``; None while the run is not complete.
        way_to_resume: the command that continues the run, or the call if the run has Python objects.
        derived_from: of a run that `retrain` or `extend` made: ``run``, the directory of the complete run, ``by``, the
            command, and ``result``, the SHA-256 of its ``result.json``; None: the run was made by neither.
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
    way_to_resume: str
    derived_from: Mapping[str, str] | None = None

    @property
    def leading(self) -> StageState:
        """The last stage that has trials; if no stage has, the first one."""
        return next((stage for stage in reversed(self.stages) if stage.trials), self.stages[0])

    @classmethod
    def read(cls, path: Path) -> RunState:
        """Read a run directory, also while a process works on it.

        Raises:
            RunDirectoryError: the path is not a run directory.
            DamagedError: ``result.json`` cannot be read.
        """
        directory = RunDirectory.open(path)
        config = directory.read_config()
        result = directory.read_result()
        locked = directory.locked
        status = "complete" if result is not None else "running" if locked else "interrupted"
        ledger = Ledger(directory.trials, writable=False)
        logged, damage = _last_lines(directory.metrics)
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
            directory.holder,
            tuple(stages),
            None if result is not None else stages[at],
            {number: attempts.started for number, attempts in sorted(ledger.attempts.items()) if attempts.started},
            [*ledger.damage, *missing_trials(ledger, result), *damage],
            _idle(directory),
            result,
            way_to_resume(directory.path, config, _identity(directory).get("ranks", 1)),
            _identity(directory).get("derived_from"),
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
        # Trials record whether they meet their constraints, so the objectives are enough to rank them.
        Problem(own.get("objectives") or top["objectives"]),
        {
            key: limit if isinstance(limit, str) else limit["limit"]
            for key, limit in limits.items()
            if limit is not None
        },
        logged,
    )


def _last_lines(path: Path) -> tuple[dict[str, dict[str, Any]], list[Damage]]:
    """Return stage -> the last whole line that it logged, and the damaged lines. An unfinished last line is ignored."""
    lines: dict[str, dict[str, Any]] = {}
    damage: list[Damage] = []
    for record in logged_numbers(path):
        if isinstance(record, Damage):
            damage.append(record)
        else:
            lines[record["stage"]] = record
    return lines, damage


def _identity(directory: RunDirectory) -> Mapping[str, Any]:
    with suppress(DamagedError):  # resuming names the damage
        return directory.read_identity() or {}
    return {}


def _idle(directory: RunDirectory) -> float:
    files = [directory.config, directory.trials, directory.metrics, directory.result, *directory.checkpoints.glob("*")]
    return max(0.0, time.time() - max(file.stat().st_mtime for file in files if file.exists()))
