"""Studies over searches: each trial is a run, or several with seeds of their own, with its own run directory."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import optuna
from optuna.trial import Trial, TrialState

from automl_nas.errors import (
    ConfigurationError,
    DamagedError,
    InfeasibleError,
    RunDirectoryError,
    RunFailedError,
)
from automl_nas.run import Plan, Session, complete_manager, make_plan
from automl_nas.streams import stream_seed
from automl_nas_optuna.storages import close, open_storage, quiet, reached
from automl_nas_optuna.suggesting import architecture_of, distributions_of
from automl_nas_optuna.tuning_settings import StudyFile

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

IDENTITY, VALUES, RUNS, ERROR = "automl_nas:study", "settings", "runs", "error"
"""Attributes: of the study; and of its trials."""


@final
class Tuning:
    """A study over searches in a directory; it may be killed at any time and goes on where it was.

    The sampler is made anew for each trial, with a seed of the stream (seed, trial): it depends on nothing but the
    trials before. A trial that was going on is continued, its run resumed.

    Args:
        file: the study.
        directory: holds the runs, and the storage unless the file names one.

    Raises:
        ConfigurationError: the study in the storage was begun with other settings.
        StorageError: the storage cannot be reached.
    """

    def __init__(self, file: StudyFile, directory: Path) -> None:
        self._file, self.directory = file, directory
        settings = self._settings = file.settings
        directory.mkdir(parents=True, exist_ok=True)
        self._address = settings.storage or str((directory / "study.journal").resolve())
        self._plan: Plan | None = None
        self.objectives: Mapping[str, str] = settings.objectives or self._main_objective()
        self._distributions = self._all_distributions()
        self._storage = open_storage(self._address)
        ways: Any = list(self.objectives.values())
        with reached(self._address), quiet():
            self.study = optuna.create_study(
                storage=self._storage,
                study_name=settings.name or directory.resolve().name,
                directions=ways,
                load_if_exists=True,
            )
            self._check()

    def run(self, told: Callable[[FrozenTrial], None] | None = None) -> None:
        """Run what is left of the study.

        Args:
            told: called with each trial that has ended.

        Raises:
            RunInterrupted: stopped; call it again to go on.
            RunFailedError: too many trials in a row failed.
            ConfigurationError: the configuration of the runs is wrong.
            RunDirectoryError: another process works on the study.
        """
        with (self.directory / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunDirectoryError(f"another process works on the study in {self.directory}") from None
            if not self._ended():
                self._try_first()
            while (number := len(self._ended())) < self._settings.trials:
                trial = self._interrupted() or self._next(number)
                self._evaluate(trial)
                ended = self.study.trials[trial.number]
                if told is not None:
                    told(ended)
                last = self._ended()[-self._settings.max_failures :]
                if len(last) == self._settings.max_failures and all(t.state is TrialState.FAIL for t in last):
                    raise RunFailedError(
                        f"the last {len(last)} trials of the study failed; the last one: {ended.user_attrs.get(ERROR)}"
                    )

    def best(self) -> list[FrozenTrial]:
        """Return the best trials: one, or those that no other dominates."""
        if not any(trial.state is TrialState.COMPLETE for trial in self.study.trials):
            return []
        return self.study.best_trials if len(self.objectives) > 1 else [self.study.best_trial]

    def close(self) -> None:
        """Let go of the storage."""
        close(self._storage)

    def _try_first(self) -> None:
        """Resolve the configuration with a value of each parameter: a setting that does not exist fails no trials."""
        parameters = self._settings.parameters.items()
        given = self._file.given({name: p.options[0] if p.options is not None else p.low for name, p in parameters})
        try:
            make_plan(given.value, complete_manager().registry)
        except ConfigurationError as error:
            raise given.locate(error) from error

    def _ended(self) -> list[FrozenTrial]:
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]

    def _interrupted(self) -> Trial | None:
        """Return the trial that an earlier process left, if its parameters are known."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            live = Trial(self.study, trial._trial_id)
            if VALUES in trial.user_attrs:
                return live
            # It was being suggested: nothing has been run with it.
            self.study.tell(live, state=TrialState.FAIL)
        return None

    def _next(self, number: int) -> Trial:
        seed, sequence = (
            stream_seed(self._settings.seed, f"study/{what}", at) >> 31
            for what, at in (("sampler", number), ("sequence", 0))
        )
        self.study.sampler = self._file.sampler.make(seed, sequence)
        trial = self.study.ask(self._distributions)
        values: dict[str, Any] = {
            name: parameter.value(trial.params[name]) for name, parameter in self._settings.parameters.items()
        }
        if self._settings.joint is not None:
            assert self._plan is not None
            found = architecture_of(trial.params, self._plan.space)
            assert found is not None
            values[f"stages.{self._settings.joint}.strategy"] = {"name": "given", "architectures": [found.to_dict()]}
        trial.set_user_attr(VALUES, values)
        return trial

    def _evaluate(self, trial: Trial) -> None:
        values, repeats, begun = trial.user_attrs[VALUES], self._settings.repeats, time.monotonic()
        found: list[list[float]] = []
        try:
            for repeat in range(repeats):
                name = f"{trial.number:04d}" + (f"-{repeat}" if repeats > 1 else "")
                result = self._result(self.directory / name, values, self._settings.seed + repeat)
                found.append([_measured(result, objective) for objective in self.objectives])
        except (RunFailedError, InfeasibleError, DamagedError) as error:
            self._failed(trial, error)
            return
        except ConfigurationError as error:
            # Settings that do not go together are one of many; anything else is wrong in all of them.
            if not any(error.path.startswith(_path_like(name)) for name in values):
                raise
            self._failed(trial, error)
            return
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 3))
        means = [sum(column) / len(found) for column in zip(*found, strict=True)]
        with reached(self._address):
            self.study.tell(trial, means)

    def _result(self, directory: Path, values: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
        given = self._file.given(values)
        raw = {**given.value, "seed": seed}
        try:
            if (directory / "config.yaml").exists():
                session = Session.resume(directory, raw=raw, executor=raw.get("executor"))
            else:
                session = Session.start(raw, directory)
            return session.run()
        except ConfigurationError as error:
            located = given.locate(error)
            raise ConfigurationError(located.message, path=located.path, source=located.source) from error

    def _failed(self, trial: Trial, error: Exception) -> None:
        trial.set_user_attr(ERROR, str(error))
        with reached(self._address):
            self.study.tell(trial, state=TrialState.FAIL)

    def _base_plan(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._file.given({}).value, complete_manager().registry)
        return self._plan

    def _main_objective(self) -> Mapping[str, str]:
        plan = self._base_plan()
        source = plan.final.source if plan.final is not None else plan.stages[-1].settings.name
        problem = next(stage.problem for stage in plan.stages if stage.settings.name == source)
        name, way = next(iter(problem.objectives.items()))
        return {name: way}

    def _all_distributions(self) -> dict[str, BaseDistribution]:
        found = {name: parameter.distribution for name, parameter in self._settings.parameters.items()}
        if self._settings.joint is None:
            return found
        from automl_nas.space import Subset

        plan = self._base_plan()
        if self._settings.joint not in [stage.settings.name for stage in plan.stages]:
            raise ConfigurationError(f"no stage is called '{self._settings.joint}'", path="joint")
        if any(isinstance(decision, Subset) for decision in plan.space.decisions.values()):
            raise ConfigurationError(
                "a joint study needs decisions that are parameters one by one, and the space has subsets; use "
                "automl_nas_optuna.suggest in an objective of your own",
                path="joint",
            )
        return found | distributions_of(plan.space)

    def _check(self) -> None:
        told = asdict(self._settings)
        kept = {name: told[name] for name in ("parameters", "joint", "repeats", "sampler", "seed")}
        kept = {**kept, "objectives": dict(self.objectives), "configuration": self._file.given({}).value}
        kept = json.loads(json.dumps(kept))
        there = self.study.user_attrs.get(IDENTITY)
        if there is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(IDENTITY, kept)
        elif there != kept:
            changed = [name for name in kept if there is None or there.get(name) != kept[name]]
            raise ConfigurationError(
                f"the study '{self.study.study_name}' was begun with other settings ({', '.join(changed)}); restore "
                "them, or choose another directory or name",
                path=changed[0],
            )


def _measured(result: Mapping[str, Any], name: str) -> float:
    """Return an objective of a run: a metric or cost of its best trial, or what stands at a path of its result.

    Raises:
        RunFailedError: the run found nothing feasible.
        ConfigurationError: there is no such number.
    """
    best = result["best"]
    if best is None:
        raise RunFailedError("the run found no feasible network")
    known = {**best["costs"], **best["metrics"]}
    if name in known:
        return float(known[name])
    here: Any = result
    for part in name.split("."):
        if isinstance(here, list) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            here = here.get(part) if isinstance(here, Mapping) else None
    if isinstance(here, bool) or not isinstance(here, int | float):
        raise ConfigurationError(
            f"a run has no number called '{name}'; there are {', '.join(sorted(known))}, and paths in result.json",
            path="objectives",
        )
    return float(here)


def _path_like(name: str) -> str:
    """Return the head of a setting's path that does not depend on how items of lists are named."""
    return name.partition(".")[0].partition("[")[0]
