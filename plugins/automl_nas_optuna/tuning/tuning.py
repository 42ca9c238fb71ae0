"""`Tuning`: studies that tune the settings of searches. Each trial is a run, or several runs with different seeds."""

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
from automl_nas.run import Plan, Session, complete_manager, disk_errors, make_plan
from automl_nas.streams import stream_seed
from automl_nas_optuna.objective.recorded_options import ARCHITECTURE, OPTIONS, record_options
from automl_nas_optuna.objective.suggesting import architecture_of, distributions_of
from automl_nas_optuna.storages import close, open_storage, quiet, reached
from automl_nas_optuna.tuning.study_file import StudyFile

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from automl_nas.space import SearchSpace

IDENTITY, EXHAUSTED = "automl_nas:study", "automl_nas:exhausted"
VALUES, ERROR = "settings", "error"
"""Names of attributes: the first line of the study, the others of its trials."""


@final
class Tuning:
    """A study over searches, in a directory. It may be killed at any time and continues where it was.

    A new sampler is constructed for each trial, with the seed of the stream (seed, trial), so a trial's settings depend
    on the earlier trials only. An interrupted trial is continued: its run is resumed.

    Args:
        file: the study file.
        directory: contains the run directories, and the storage unless the file names another one.

    Attributes:
        directory: the directory.
        objectives: name -> ``maximize`` or ``minimize``.
        study: the Optuna study.

    Raises:
        ConfigurationError: the study in the storage was begun with other settings.
        StorageError: the storage cannot be reached.
        RunFailedError: the directory cannot be made.
    """

    def __init__(self, file: StudyFile, directory: Path) -> None:
        self._file, self.directory = file, directory
        settings = self._settings = file.settings
        with disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._address = settings.storage or str((directory / "study.journal").resolve())
        self._plan: Plan | None = None
        self.objectives: Mapping[str, str] = settings.objectives or self._main_objective()
        self._distributions = self._all_distributions()
        self._storage = open_storage(self._address)
        directions: Any = list(self.objectives.values())
        with reached(self._address), quiet():
            self.study: optuna.Study = optuna.create_study(
                storage=self._storage,
                study_name=settings.name or directory.resolve().name,
                directions=directions,
                load_if_exists=True,
            )
            self._check()
        # A sampler that enumerates calls it at the end. Outside of `Study.optimize`, Optuna's own raises an error.
        self.study.stop = self._exhaust  # type: ignore[method-assign]

    def run(self, on_trial: Callable[[FrozenTrial], None] | None = None) -> None:
        """Run the remaining trials of the study.

        Args:
            on_trial: called with each trial that has ended.

        Raises:
            RunInterrupted: the study was interrupted; call it again to continue.
            RunFailedError: too many consecutive trials failed.
            ConfigurationError: the configuration of the runs is invalid.
            RunDirectoryError: another process works on the study.
        """
        with (self.directory / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunDirectoryError(f"another process works on the study in {self.directory}") from None
            if not self._ended():
                self._check_configuration()
            while (number := len(self._ended())) < self._settings.trials and not self.exhausted:
                trial = self._interrupted() or self._next(number)
                self._evaluate(trial)
                ended = self.study.trials[trial.number]
                if on_trial is not None:
                    on_trial(ended)
                last = self._ended()[-self._settings.max_failures :]
                if len(last) == self._settings.max_failures and all(t.state is TrialState.FAIL for t in last):
                    raise RunFailedError(
                        f"the last {len(last)} trials of the study failed; the last one: {ended.user_attrs.get(ERROR)}"
                    )

    @property
    def exhausted(self) -> bool:
        """Whether the sampler enumerates and has proposed all settings."""
        return bool(self.study.user_attrs.get(EXHAUSTED))

    def best(self) -> list[FrozenTrial]:
        """Return the best trial, or with several objectives the trials that no other trial dominates."""
        if not any(trial.state is TrialState.COMPLETE for trial in self.study.trials):
            return []
        return self.study.best_trials if len(self.objectives) > 1 else [self.study.best_trial]

    def close(self) -> None:
        """Close the connection to the storage."""
        close(self._storage)

    def _exhaust(self) -> None:
        self.study.set_user_attr(EXHAUSTED, True)

    def _check_configuration(self) -> None:
        """Resolve the configuration with one value of each parameter, to report misspelt settings before the study."""
        parameters = self._settings.parameters.items()
        values = {name: item.options[0] if item.options is not None else item.low for name, item in parameters}
        configuration = self._file.configuration(values)
        try:
            make_plan(configuration.value, complete_manager().registry)
        except ConfigurationError as error:
            raise configuration.locate(error) from error

    def _ended(self) -> list[FrozenTrial]:
        """Return the finished trials, without those that were interrupted before they had settings.

        Those were never a trial of the study: an undisturbed study does not have them.
        """
        trials = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.is_finished()]
        return [trial for trial in trials if trial.state is not TrialState.FAIL or VALUES in trial.user_attrs]

    def _interrupted(self) -> Trial | None:
        """Return the trial that an earlier process left unfinished; None if no unfinished trial has settings."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            unfinished = Trial(self.study, trial._trial_id)
            if VALUES in trial.user_attrs:
                return unfinished
            # The process ended before the settings were stored, so no run was started.
            self.study.tell(unfinished, state=TrialState.FAIL)
        return None

    def _next(self, number: int) -> Trial:
        seed, sequence = (
            stream_seed(self._settings.seed, f"study/{what}", at) >> 31
            for what, at in (("sampler", number), ("sequence", 0))
        )
        self.study.sampler = self._file.sampler.make(seed, sequence, self._distributions)
        trial = self.study.ask(self._distributions)
        values: dict[str, Any] = {
            name: parameter.value(trial.params[name]) for name, parameter in self._settings.parameters.items()
        }
        if self._settings.joint is not None:
            assert self._plan is not None
            architecture = architecture_of(trial.params, self._plan.space)
            assert architecture is not None
            trial.set_user_attr(ARCHITECTURE, architecture.to_dict())
            values[f"stages.{self._settings.joint}.strategy"] = {
                "name": "given",
                "architectures": [architecture.to_dict()],
            }
        trial.set_user_attr(VALUES, values)
        return trial

    def _evaluate(self, trial: Trial) -> None:
        values, repeats, begun = trial.user_attrs[VALUES], self._settings.repeats, time.monotonic()
        objectives: list[list[float]] = []  # of each run
        try:
            for repeat in range(repeats):
                run = f"{trial.number:04d}" + (f"-{repeat}" if repeats > 1 else "")
                result = self._result(self.directory / run, values, self._settings.seed + repeat)
                objectives.append([_value_of(result, name) for name in self.objectives])
        except (RunFailedError, InfeasibleError, DamagedError) as error:
            self._fail(trial, error)
            return
        except ConfigurationError as error:
            # These values of the settings do not go together, but others may. Any other error occurs in all trials.
            if not any(error.path.startswith(_path_head(name)) for name in values):
                raise
            self._fail(trial, error)
            return
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 3))
        means = [sum(column) / repeats for column in zip(*objectives, strict=True)]
        with reached(self._address):
            self.study.tell(trial, means)

    def _result(self, directory: Path, values: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
        configuration = self._file.configuration(values)
        raw = {**configuration.value, "seed": seed}
        try:
            if (directory / "config.yaml").exists():
                session = Session.resume(directory, raw=raw, executor=raw.get("executor"))
            else:
                session = Session.start(raw, directory)
            return session.run()
        except ConfigurationError as error:
            located = configuration.locate(error)
            raise ConfigurationError(located.message, path=located.path, source=located.source) from error

    def _fail(self, trial: Trial, error: Exception) -> None:
        trial.set_user_attr(ERROR, str(error))
        with reached(self._address):
            self.study.tell(trial, state=TrialState.FAIL)

    def _base_plan(self) -> Plan:
        if self._plan is None:
            self._plan = make_plan(self._file.configuration({}).value, complete_manager().registry)
        return self._plan

    def _main_objective(self) -> Mapping[str, str]:
        plan = self._base_plan()
        source = plan.final.source if plan.final is not None else plan.stages[-1].settings.name
        problem = next(stage.problem for stage in plan.stages if stage.settings.name == source)
        name, direction = next(iter(problem.objectives.items()))
        return {name: direction}

    def _all_distributions(self) -> dict[str, BaseDistribution]:
        distributions = {name: parameter.distribution for name, parameter in self._settings.parameters.items()}
        if self._settings.joint is None:
            return distributions
        from automl_nas.space import Subset

        plan = self._base_plan()
        if self._settings.joint not in [stage.settings.name for stage in plan.stages]:
            raise ConfigurationError(f"no stage is called '{self._settings.joint}'", path="joint")
        if any(isinstance(decision, Subset) for decision in plan.space.decisions.values()):
            raise ConfigurationError(
                "a joint study does not support subsets, and the space has one; use automl_nas_optuna.suggest in an "
                "objective of your own",
                path="joint",
            )
        return distributions | distributions_of(plan.space)

    def _check(self) -> None:
        settings = asdict(self._settings)
        identity = {name: settings[name] for name in ("parameters", "joint", "repeats", "sampler", "seed")}
        identity |= {"objectives": dict(self.objectives), "configuration": self._file.configuration({}).value}
        identity = json.loads(json.dumps(identity))
        stored = self.study.user_attrs.get(IDENTITY)
        if stored is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(IDENTITY, identity)
        elif stored != identity:
            changed = [name for name in identity if stored is None or stored.get(name) != identity[name]]
            raise ConfigurationError(
                f"the study '{self.study.study_name}' was begun with other settings ({', '.join(changed)}); restore "
                "them, or choose another directory or name",
                path=changed[0],
            )
        if self._plan is not None and self._settings.joint is not None:
            self._check_options(self._plan.space)

    def _check_options(self, space: SearchSpace) -> None:
        """Record the options of a joint study, or compare them: they may be defined in code."""
        recorded = self.study.user_attrs.get(OPTIONS)
        present = {name: list(decision.options) for name, decision in space.decisions.items()}
        for name, options in (recorded or {}).items():
            if present.get(name) != options:
                raise ConfigurationError(
                    f"the study '{self.study.study_name}' was begun with the options {options} of '{name}', and the "
                    f"space now has {present.get(name)}; restore them, or choose another directory or name",
                    path="joint",
                )
        record_options(self.study, space, self._distributions)


def _value_of(result: Mapping[str, Any], name: str) -> float:
    """Return an objective of a run: a metric or cost of its best trial, or the number at a path in its result.

    Raises:
        RunFailedError: the run found no feasible network.
        ConfigurationError: the result has no number of this name.
    """
    best = result["best"]
    if best is None:
        raise RunFailedError("the run found no feasible network")
    values = {**best["costs"], **best["metrics"]}
    if name in values:
        return float(values[name])
    item: Any = result
    for part in name.split("."):
        if isinstance(item, list) and part.isdigit() and int(part) < len(item):
            item = item[int(part)]
        else:
            item = item.get(part) if isinstance(item, Mapping) else None
    if isinstance(item, bool) or not isinstance(item, int | float):
        raise ConfigurationError(
            f"a run has no number called '{name}'; there are {', '.join(sorted(values))}, and paths in result.json",
            path="objectives",
        )
    return float(item)


def _path_head(name: str) -> str:
    """Return the first part of a setting's path, which is the same however items of lists are addressed."""
    return name.partition(".")[0].partition("[")[0]
