"""`Mirror`: copies a run's trials into an Optuna storage, for ``optuna.visualization`` and optuna-dashboard."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import State
from automl_nas.run import RunDirectory, complete_manager, recorded_after
from automl_nas.space import Architecture, Choice
from automl_nas.strategy import Trial
from automl_nas_optuna.long_values import split
from automl_nas_optuna.mirror.highest_fidelity import HighestFidelities
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.objective.recorded_options import ARCHITECTURE, OPTIONS
from automl_nas_optuna.objective.suggesting import distributions_of, parameters_of
from automl_nas_optuna.storages import close, open_storage, quiet, reached, without_password

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

RUN, NUMBER = "automl_nas:run", "automl_nas:number"
"""Attributes that a mirror writes: the run of a study, and the number of a trial in the run."""

DIRECTORY, CONFIGURATION = "automl_nas:directory", "automl_nas:configuration"
"""Attributes of a study: the run directory, and the configuration of the run."""

DASHBOARD_CONSTRAINTS = "constraints"
"""The system attribute from which optuna-dashboard reads violations. Optuna 5 writes one attribute for each of them."""

MAX_INFO = 1000
"""The number of characters of JSON up to which an entry of the `info` of a trial is copied."""

_STATES = {State.COMPLETE: TrialState.COMPLETE, State.PRUNED: TrialState.PRUNED, State.FAILED: TrialState.FAIL}


@final
class Mirror:
    """Copies the finished trials of a run into a storage, each once. Each stage has a study, named ``study/stage``.

    Args:
        directory: the run directory.
        description: the run's objectives and decisions.
        storage: see `open_storage`.
        study: the first part of the studies' names.

    Attributes:
        copied: the number of trials that this object has copied.
    """

    def __init__(self, directory: Path, description: RunDescription, storage: str, study: str) -> None:
        self._directory, self._description = directory, description
        self._address, self._study = storage, study
        self._parameters = MirrorParameters(description)
        run = RunDirectory(directory)
        stages = run.read_config()["stages"] if run.config.exists() else []
        self._fidelities = HighestFidelities(stages, complete_manager().registry)
        self._storage: BaseStorage | None = None
        # Stage -> study, and the numbers of the trials that it contains.
        self._studies: dict[str, tuple[Study, set[int]]] = {}
        # Trials with the times at which they were recorded.
        self._uncopied: list[tuple[Trial, float | None]] = []
        self._offset = self.copied = 0

    @property
    def behind(self) -> int:
        """The number of recorded trials that are not copied yet."""
        self._read()
        return len(self._uncopied)

    def check(self) -> None:
        """Open the storage and check the studies that exist in it.

        Raises:
            ConfigurationError: a study with this name belongs to another run, or has other directions.
            StorageError: the storage cannot be reached.
        """
        with reached(self._address):
            self._open()
            assert self._storage is not None
            existing = optuna.get_all_study_names(self._storage)
            for stage in self._description.objectives:
                if self.name(stage) in existing:
                    self._open_study(stage)

    def copy(self) -> bool:
        """Copy the next trial; return False if all are copied.

        Raises:
            ConfigurationError: as in `check`.
            StorageError: the storage does not respond; the trial is copied by the next call.
        """
        if not self._uncopied:
            self._read()
        if not self._uncopied:
            return False
        trial, recorded_at = self._uncopied[0]
        try:
            with reached(self._address):
                self._open()
                study, numbers = self._open_study(trial.stage)
                if trial.number not in numbers:
                    self._add(study, trial, recorded_at)
                    numbers.add(trial.number)
                    self.copied += 1
        except BaseException:
            # The trial may or may not have been written. Closing makes the next call read the study's trials again.
            self.close()
            raise
        del self._uncopied[0]
        return True

    def close(self) -> None:
        """Close the connection to the storage."""
        if self._storage is not None:
            close(self._storage)
        self._storage, self._studies = None, {}

    @property
    def names(self) -> list[str]:
        """The names of the studies that this object has opened."""
        return [self.name(stage) for stage in self._studies]

    def name(self, stage: str) -> str:
        """Return the name of a stage's study."""
        return f"{self._study}/{stage}"

    def _read(self) -> None:
        recorded, self._offset = recorded_after(self._directory / "trials.jsonl", self._offset)
        self._uncopied += [item for item in recorded if item[0].stage in self._description.objectives]
        for trial, _ in recorded:
            self._fidelities.see(trial)

    def _open(self) -> None:
        if self._storage is None:
            self._storage = open_storage(self._address)

    def _open_study(self, stage: str) -> tuple[Study, set[int]]:
        if stage in self._studies:
            return self._studies[stage]
        objectives = self._description.objectives[stage]
        directions = [StudyDirection[direction.upper()] for direction in objectives.values()]
        with quiet():
            study = optuna.create_study(
                storage=self._storage, study_name=self.name(stage), directions=directions, load_if_exists=True
            )
        owner = study.user_attrs.get(RUN)
        new = owner is None and not study.get_trials(deepcopy=False)
        if not new and owner != self._description.run:
            whose = "another run" if owner else "somebody else"
            raise ConfigurationError(
                f"the study '{self.name(stage)}' in {without_password(self._address)} belongs to {whose}; choose "
                "another name for the study, or delete it",
                path="study",
            )
        if study.directions != directions:
            raise ConfigurationError(
                f"the study '{self.name(stage)}' has the directions {_names(study.directions)}, but the stage's "
                f"objectives need {_names(directions)}; choose another name for the study",
                path="study",
            )
        if new:
            study.set_user_attr(RUN, self._description.run)
            with quiet():
                study.set_metric_names(list(objectives))
            options = {name: list(decision.options) for name, decision in self._description.decisions.items()}
            for name, value in (
                (OPTIONS, options),
                (DIRECTORY, str(self._directory.resolve())),
                (CONFIGURATION, self._configuration()),
            ):
                for part in split(name, value):
                    study.set_user_attr(*part)
        numbers = {item.user_attrs[NUMBER] for item in study.get_trials(deepcopy=False) if NUMBER in item.user_attrs}
        self._studies[stage] = study, numbers
        return study, numbers

    def _configuration(self) -> Any:
        """Return the configuration of the run, without passwords that an earlier version recorded."""
        run = RunDirectory(self._directory)
        return _without_passwords(run.read_config()) if run.config.exists() else None

    def _add(self, study: Study, trial: Trial, recorded_at: float | None) -> None:
        copy = self._optuna_trial(trial, recorded_at)
        try:
            study.add_trial(copy)
        except ValueError as error:  # of Optuna, which supports one kind of distribution for each parameter
            raise ConfigurationError(
                f"the study '{study.study_name}' does not accept a trial ({error}): an earlier version wrote its "
                "parameters in another way; choose another name for the study, or delete it",
                path="study",
            ) from error

    def _optuna_trial(self, trial: Trial, recorded_at: float | None) -> FrozenTrial:
        objectives, state = self._description.objectives[trial.stage], _STATES[trial.state]
        values = [trial.values[name] for name in objectives if name in trial.values]
        if state is TrialState.COMPLETE and len(values) < len(objectives):
            # The stage records costs only. In Optuna a complete trial has a value for each objective.
            state = TrialState.FAIL
        steps = {int(step): float(value) for step, value in _reports(trial)}
        other_values = {name: value for name, value in trial.values.items() if name not in objectives}
        if state is TrialState.COMPLETE and self._fidelities.is_lower(trial):
            # Optuna compares all complete trials with each other. Its own trials of lower fidelities are pruned ones.
            state = TrialState.PRUNED
            other_values = dict(trial.values)
            if len(objectives) == 1:
                steps = {round(trial.effective_fidelity): values[0]}
        if state is TrialState.PRUNED and len(objectives) == 1 and steps:
            values = [steps[max(steps)]]
        elif state is not TrialState.COMPLETE:
            values = []
        copy = create_trial(
            state=state,
            values=values or None,
            params=self._parameters.values(trial.architecture),
            distributions=self._parameters.distributions(trial.architecture),
            user_attrs={**other_values, **_attributes(trial)},
            intermediate_values=steps if len(objectives) == 1 else {},
            constraints=dict(trial.violations),
            system_attrs={DASHBOARD_CONSTRAINTS: list(trial.violations.values())} if trial.violations else {},
        )
        assert copy.datetime_complete is not None
        if recorded_at is not None:  # otherwise an earlier version recorded the trial: the time is that of copying
            copy.datetime_complete = datetime.datetime.fromtimestamp(recorded_at)
        copy.datetime_start = copy.datetime_complete - datetime.timedelta(seconds=trial.seconds)
        return copy


@final
class MirrorParameters:
    """Architectures as parameters, with the names and values that `suggest` uses.

    `suggest` refuses a choice with options that are equal in Python, such as 1 and True. The parameter of such a choice
    has the options' JSON strings as values.

    Args:
        description: the run's decisions.
    """

    def __init__(self, description: RunDescription) -> None:
        decisions = description.decisions
        self._json_distributions = {
            name: CategoricalDistribution([json.dumps(option) for option in decision.options])
            for name, decision in decisions.items()
            if type(decision) is Choice and len(set(decision.options)) < len(decision.options)
        }
        others = {name: decision for name, decision in decisions.items() if name not in self._json_distributions}
        self._space = RunDescription(description.run, {}, others).space
        self._distributions: dict[str, BaseDistribution] = {**self._json_distributions, **distributions_of(self._space)}

    def values(self, architecture: Architecture) -> dict[str, Any]:
        """Return the parameters of an architecture: name -> value."""
        json_values = {name: json.dumps(architecture[name]) for name in self._json_distributions}
        others = Architecture({name: value for name, value in architecture.items() if name not in json_values})
        return {**json_values, **parameters_of(others, self._space)}

    def distributions(self, architecture: Architecture) -> dict[str, BaseDistribution]:
        """Return the distributions of an architecture's parameters: name -> distribution."""
        return {name: self._distributions[name] for name in self.values(architecture)}


def _reports(trial: Trial) -> list[tuple[int, float]]:
    reports = trial.info.get("intermediate", ())
    return [(step, value) for step, value in reports] if isinstance(reports, list | tuple) else []


def _attributes(trial: Trial) -> Mapping[str, Any]:
    short = {name: value for name, value in trial.info.items() if name != "intermediate" and _is_short(value)}
    attributes: dict[str, Any] = {**short, "number": trial.number, "seed": trial.seed, "seconds": trial.seconds}
    if trial.fidelity is not None:
        attributes["fidelity"] = trial.fidelity
    if trial.error:
        attributes["error"] = trial.error
    return {
        **{f"automl_nas:{name}": value for name, value in attributes.items()},
        ARCHITECTURE: trial.architecture.to_dict(),
    }


def _is_short(value: object) -> bool:
    return len(json.dumps(value)) <= MAX_INFO


def _without_passwords(value: Any) -> Any:
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, Mapping):
        return {key: _without_passwords(item) for key, item in value.items()}
    return [_without_passwords(item) for item in value] if isinstance(value, list) else value


def _names(directions: list[StudyDirection]) -> str:
    return ", ".join(direction.name.lower() for direction in directions)
