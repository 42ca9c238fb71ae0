"""New runs from complete ones: `retrain` repeats the final stage, `extend` continues a stage. The old run is only read.

The new run directory holds a copy of the record that the new run continues, so that it needs the old one no more.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

from automl_nas.errors import ConfigurationError, RunDirectoryError
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.hints import way_to_resume
from automl_nas.run.identity_check import compare_data, compare_spaces
from automl_nas.run.rank_check import check_trained
from automl_nas.run.record.atomic_files import disk_errors, sha256, write_record, write_whole
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.lines import checked
from automl_nas.run.record.run_record import begin_at_stage
from automl_nas.run.record.whole_ledger import whole_ledger
from automl_nas.strategy.trial import Trial

Command = Literal["retrain", "extend"]

_FREE = ("final", "executor", "observers", "checkpoint_seconds")
"""Sections that do not concern the recorded trials."""

_EXTENDABLE = ("strategy", "budget", "timeout", "max_failures")
"""Settings of a stage that leave its recorded trials valid; proposals of the strategy are compared with them."""


@dataclass(frozen=True)
class Derivation:
    """What a new run takes from a complete one.

    Attributes:
        source: the directory of the complete run.
        recorded: its configuration.
        changed: its configuration with the changes of the user.
        command: which part of the run is repeated.
        changed_data: continue though the data of the task changed.
    """

    source: RunDirectory
    recorded: Mapping[str, Any]
    changed: Mapping[str, Any]
    command: Command
    changed_data: bool = False

    def configuration(self) -> dict[str, Any]:
        """Return the configuration of the new run.

        Raises:
            RunDirectoryError: the run is not complete, or its ledger is damaged.
            ConfigurationError: a change does not fit the recorded trials, or there is nothing to do.
        """
        if self.source.read_result() is None:
            raise RunDirectoryError(
                f"{self.source.path} is not complete; first: {way_to_resume(self.source.path, self.recorded)}"
            )
        _ = self._ledger  # a damaged one is refused before anything else is done
        free = (*_FREE, "runtime") if self.command == "retrain" else (*_FREE, "stages")
        for key in dict.fromkeys([*self.recorded, *self.changed]):
            if key not in free and self.recorded.get(key) != self.changed.get(key):
                raise ConfigurationError(
                    f"{self.command} keeps the recorded trials, which {self._part(key)} would invalidate; only "
                    f"{', '.join(free)} can change. Start a new run for anything else",
                    path=key,
                )
        config = copy.deepcopy(dict(self.changed))
        config.pop("budget", None)  # of the complete run: its lengths are in the stages
        if self.command == "extend":
            if _section(self.recorded, "space") != _section(self.changed, "space"):
                raise ConfigurationError(
                    "costs are those of networks in the final space, so another one would invalidate the recorded "
                    "trials; automl-nas retrain can change it",
                    path="final.space",
                )
            self._extend(config["stages"])
        elif config.get("final") is None:
            raise ConfigurationError(
                "without a final stage there is nothing to retrain; give it settings", path="final"
            )
        return config

    def create(self, out: Path, plan: Plan, ranks: int = 1) -> RunDirectory:
        """Create and lock the directory of the new run.

        Args:
            out: new or empty.
            plan: resolved from `configuration`.
            ranks: the number of processes of the new run.

        Raises:
            RunDirectoryError: space or data are not those of the complete run, or the trials of a stage that is
                extended were trained by another number of processes, on which their weights depend.
            ConfigurationError: the best network of the search misses a limit in the new final space.
        """
        if self.command == "extend":
            check_trained(self.source, plan, self._stage, ranks)
        identity = self._identity(plan)
        if ranks > 1:
            identity["ranks"] = ranks
        self._check_limits(plan)
        stage = self._stage
        return RunDirectory.create(out, plan.config, identity, lambda directory: self._fill(directory, plan, stage))

    def _part(self, key: str) -> str:
        return "another stage" if key == "stages" else f"another {key}"

    @cached_property
    def _ledger(self) -> Ledger:
        return whole_ledger(self.source)

    @cached_property
    def _stage(self) -> int:
        """The position of the first stage that the new run works on."""
        stages = self.recorded["stages"]
        if self.command == "retrain":
            return len(stages)
        changed = self.changed["stages"]
        if not isinstance(changed, list) or [_name(stage) for stage in changed] != [_name(stage) for stage in stages]:
            raise ConfigurationError("the stages of a run cannot be renamed, added or removed", path="stages")
        positions = [n for n, (before, now) in enumerate(zip(stages, changed, strict=True)) if before != now]
        if not positions:
            names = [name for name in map(_name, stages) if self._trials(name)]
            raise ConfigurationError(
                "nothing to extend: give a stage a larger budget"
                + (f", such as --set stages.{names[-1]}.budget.trials=100" if names else "")
            )
        return positions[0]

    def _trials(self, stage: str) -> list[Trial]:
        return [trial for _, trial in sorted(self._ledger.trials.items()) if trial.stage == stage]

    def _extend(self, stages: list[dict[str, Any]]) -> None:
        """Check the changes of the first changed stage, and write into its budget where its recorded trials end."""
        position, path = self._stage, f"stages[{self._stage}]"
        before, now = self.recorded["stages"][position], stages[position]
        for key in dict.fromkeys([*before, *now]):
            if key not in _EXTENDABLE and before.get(key) != now.get(key):
                raise ConfigurationError(
                    f"another '{key}' would invalidate the recorded trials of the stage '{_name(now)}'; only "
                    f"{', '.join(_EXTENDABLE)} can change",
                    path=f"{path}.{key}",
                )
        count = len(self._trials(_name(now)))
        if not count:
            raise ConfigurationError(
                f"the stage '{_name(now)}' has no trials to continue after; start a new run", path=path
            )
        old, new = before.get("budget") or {}, now.get("budget") or {}
        if not isinstance(new, Mapping):
            return  # refused when it is resolved
        trials = new.get("trials")
        if isinstance(trials, int) and trials <= count:
            raise ConfigurationError(
                f"the stage has {count} trials already; a larger number is needed", path=f"{path}.budget.trials"
            )
        limited = old.get("seconds") is not None or old.get("steps") is not None
        if before["strategy"] == now["strategy"] and not limited and old.get("trials") != count:
            raise ConfigurationError(
                f"the stage ended after {count} trials because its strategy '{before['strategy']['name']}' was done, "
                f"not because of its budget: change the setting of the strategy that ends the search{_numbers(before)}",
                path=f"{path}.budget",
            )
        now["budget"] = {**new, "extended_at": [*(old.get("extended_at") or ()), count]}

    def _identity(self, plan: Plan) -> dict[str, Any]:
        """Return the identity of the new run.

        Raises:
            RunDirectoryError: space or data are not those of the complete run.
        """
        recorded: dict[str, Any] = dict(self.source.read_identity() or plan.identity)
        for key in ("space", "task"):  # a changed section is another space or task on purpose
            if _section(self.recorded, key) != _section(plan.config, key):
                recorded = {**recorded, f"final_{key}": plan.identity[f"final_{key}"]}
        recorded.pop("ranks", None)  # of the processes of the complete run
        recorded.pop("earlier_ranks", None)
        # The new run begins with the files that its own configuration names.
        before, present = recorded.pop("files", {}), plan.identity.get("files", {})
        if present:
            recorded["files"] = {file: before.get(file, now) for file, now in present.items()}
        if self.recorded["runtime"] != plan.config["runtime"]:
            recorded = {**recorded, "runtime": plan.identity["runtime"]}
        compare_spaces(self.source, recorded, plan)
        identity = compare_data(self.source, recorded, plan, changed=self.changed_data)
        origin = {"run": str(self.source.path.resolve()), "by": self.command, "result": sha256(self.source.result)}
        return {**identity, "derived_from": origin}

    def _check_limits(self, plan: Plan) -> None:
        """Check that a changed final space does not make the best network of the search miss its limits."""
        same = _section(self.recorded, "space") == _section(plan.config, "space")
        if self.command != "retrain" or plan.fitter is not None or same:
            return
        stage = plan.result_stage
        best = stage.problem.best(self._trials(stage.settings.name))
        if best is None:
            return
        missed = [text for text, value in stage.problem.violations(best.architecture).items() if value > 0]
        if missed:
            raise ConfigurationError(
                f"the best network of the search (trial {best.number}) would miss the limit {missed[0]} in this space; "
                "choose a smaller space, or repeat the search in a new run",
                path="final.space",
            )

    def _fill(self, directory: RunDirectory, plan: Plan, stage: int) -> None:
        """Copy the record of the stages before ``stage``, and the trials of that stage itself."""
        stages = [_name(each) for each in self.recorded["stages"]]
        with disk_errors(directory.path):
            if self.command == "extend":
                shutil.copyfile(self.source.environment, directory.environment)  # which a replay is compared with
            if self.source.measured.exists():
                write_record(directory.measured, self.source.read_measured())
            names = set(stages[: stage + 1])
            trials = [trial for _, trial in sorted(self._ledger.trials.items()) if trial.stage in names]
            _copy_lines(self.source.trials, directory.trials, "number", {trial.number for trial in trials})
            _copy_lines(self.source.metrics, directory.metrics, "stage", set(stages[:stage]))
            for name in stages[:stage]:
                if (self.source.artifacts / name).is_dir():
                    shutil.copytree(self.source.artifacts / name, directory.artifacts / name)
        before = sum(trial.stage != stages[stage] for trial in trials) if stage < len(stages) else len(trials)
        begin_at_stage(directory, plan.digest, stage, before)


def _name(stage: Any) -> str:
    return str(stage.get("name")) if isinstance(stage, Mapping) else ""


def _numbers(stage: Mapping[str, Any]) -> str:
    """Return in words the settings of a stage's strategy that may end its search; empty if it has no such settings."""
    numbers = [f"{name} {value}" for name, value in stage["strategy"].items() if type(value) is int]
    if not numbers:
        return ""
    return f", --set stages.{_name(stage)}.strategy.SETTING=VALUE (its whole numbers: {', '.join(numbers)})"


def _section(config: Mapping[str, Any], key: str) -> Any:
    """Return the section ``final.key``; None without one."""
    final = config.get("final")
    return final.get(key) if isinstance(final, Mapping) else None


def _copy_lines(source: Path, target: Path, key: str, values: Set[object]) -> None:
    """Copy the undamaged lines whose entry ``key`` has one of some values; such lines have their own checksums."""
    if not source.exists():
        return

    def write(file: BinaryIO) -> None:
        with source.open("rb") as lines:
            for line in lines:
                record = checked(line)
                if record is not None and record.get(key) in values:
                    file.write(line)

    write_whole(target, write)
