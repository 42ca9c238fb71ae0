"""A run's trials in an Optuna storage: where ``optuna.visualization`` and optuna-dashboard find them."""

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
from automl_nas.run import finished_after
from automl_nas.space import Architecture, Choice
from automl_nas.strategy import Trial
from automl_nas_optuna.run_description import RunDescription
from automl_nas_optuna.storages import close, open_storage, quiet, reached, shown
from automl_nas_optuna.suggesting import distributions_of, parameters_of

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

RUN, NUMBER = "automl_nas:run", "automl_nas:number"
"""The attributes of studies and trials by which a mirror knows what is its own."""

_STATES = {State.COMPLETE: TrialState.COMPLETE, State.PRUNED: TrialState.PRUNED, State.FAILED: TrialState.FAIL}


@final
class Mirror:
    """Copies finished trials of a run into a storage, each once: one study for each stage, called ``study/stage``.

    Args:
        directory: of the run.
        portrait: of the run.
        storage: see `open_storage`.
        study: the first part of the names of the studies.

    Attributes:
        copied: how many trials this object has copied.
    """

    def __init__(self, directory: Path, portrait: RunDescription, storage: str, study: str) -> None:
        self._trials, self._portrait, self._address, self._study = directory / "trials.jsonl", portrait, storage, study
        self._parameters = Parameters(portrait)
        self._storage: BaseStorage | None = None
        self._studies: dict[str, tuple[Study, set[int]]] = {}
        self._waiting: list[Trial] = []
        self._offset = self.copied = 0

    @property
    def behind(self) -> int:
        """How many trials are recorded and not copied yet."""
        self._read()
        return len(self._waiting)

    def check(self) -> None:
        """Open the storage and look at the studies that are there.

        Raises:
            ConfigurationError: a study of the name belongs to another run, or has other directions.
            StorageError: it cannot be reached.
        """
        with reached(self._address):
            self._open()
            assert self._storage is not None
            there = optuna.get_all_study_names(self._storage)
            for stage in self._portrait.objectives:
                if self.name(stage) in there:
                    self._join(stage)

    def copy(self) -> bool:
        """Copy the next trial; return whether there was one.

        Raises:
            ConfigurationError: as `check`.
            StorageError: the storage does not answer; what was not copied is kept for the next call.
        """
        if not self._waiting:
            self._read()
        if not self._waiting:
            return False
        trial = self._waiting[0]
        try:
            with reached(self._address):
                self._open()
                study, known = self._join(trial.stage)
                if trial.number not in known:
                    study.add_trial(self._picture(trial))
                    known.add(trial.number)
                    self.copied += 1
        except BaseException:
            # Whether it was written is not known: it is looked up when the storage is back.
            self.close()
            raise
        del self._waiting[0]
        return True

    def close(self) -> None:
        """Let go of the storage."""
        if self._storage is not None:
            close(self._storage)
        self._storage, self._studies = None, {}

    @property
    def names(self) -> list[str]:
        """The names of the studies that this object has used."""
        return [self.name(stage) for stage in self._studies]

    def name(self, stage: str) -> str:
        """Return the name of the study of a stage."""
        return f"{self._study}/{stage}"

    def _read(self) -> None:
        found, self._offset = finished_after(self._trials, self._offset)
        self._waiting += [trial for trial in found if trial.stage in self._portrait.objectives]

    def _open(self) -> None:
        if self._storage is None:
            self._storage = open_storage(self._address)

    def _join(self, stage: str) -> tuple[Study, set[int]]:
        if stage in self._studies:
            return self._studies[stage]
        objectives = self._portrait.objectives[stage]
        directions = [StudyDirection[way.upper()] for way in objectives.values()]
        with quiet():
            study = optuna.create_study(
                storage=self._storage, study_name=self.name(stage), directions=directions, load_if_exists=True
            )
        owner = study.user_attrs.get(RUN)
        new = owner is None and not study.get_trials(deepcopy=False)
        if not new and owner != self._portrait.run:
            whose = "another run" if owner else "somebody else"
            raise ConfigurationError(
                f"the study '{self.name(stage)}' in {shown(self._address)} is there and belongs to {whose}; choose "
                "another name for the study, or delete it",
                path="study",
            )
        if study.directions != directions:
            raise ConfigurationError(
                f"the study '{self.name(stage)}' has the directions {_told(study.directions)}, and the stage's "
                f"objectives want {_told(directions)}; choose another name for the study",
                path="study",
            )
        if new:
            study.set_user_attr(RUN, self._portrait.run)
            with quiet():
                study.set_metric_names(list(objectives))
        known = {item.user_attrs[NUMBER] for item in study.get_trials(deepcopy=False) if NUMBER in item.user_attrs}
        self._studies[stage] = study, known
        return study, known

    def _picture(self, trial: Trial) -> FrozenTrial:
        """Return a trial as Optuna's."""
        objectives, found, state = self._portrait.objectives[trial.stage], trial.values, _STATES[trial.state]
        values = [found[name] for name in objectives if name in found]
        if state is TrialState.COMPLETE and len(values) < len(objectives):
            state = TrialState.FAIL  # a stage that records costs only: Optuna has no complete trial without values
        steps = {int(step): float(value) for step, value in _reports(trial)}
        if state is TrialState.PRUNED and len(objectives) == 1 and steps:
            values = [steps[max(steps)]]
        elif state is not TrialState.COMPLETE:
            values = []
        made = create_trial(
            state=state,
            values=values or None,
            params=self._parameters.values(trial.architecture),
            distributions=self._parameters.distributions(trial.architecture),
            user_attrs={**{k: v for k, v in found.items() if k not in objectives}, **_attributes(trial)},
            intermediate_values=steps if len(objectives) == 1 else {},
            constraints=dict(trial.violations),
        )
        assert made.datetime_complete is not None
        made.datetime_start = made.datetime_complete - datetime.timedelta(seconds=trial.seconds)
        return made


@final
class Parameters:
    """Architectures as parameters, named and valued as `suggest` does.

    A choice of which two options are one to Python, such as 1 and True, is told in texts.

    Args:
        portrait: of the run.
    """

    def __init__(self, portrait: RunDescription) -> None:
        decisions = portrait.decisions
        self._texts = {
            name: CategoricalDistribution([json.dumps(option) for option in decision.options])
            for name, decision in decisions.items()
            if type(decision) is Choice and len(set(decision.options)) < len(decision.options)
        }
        told = {name: decision for name, decision in decisions.items() if name not in self._texts}
        self._space = RunDescription(portrait.run, {}, told).space
        self._distributions: dict[str, BaseDistribution] = {**self._texts, **distributions_of(self._space)}

    def values(self, architecture: Architecture) -> dict[str, Any]:
        """Return the values of the parameters of an architecture."""
        texts = {name: json.dumps(architecture[name]) for name in self._texts}
        rest = Architecture({name: value for name, value in architecture.items() if name not in texts})
        return {**texts, **parameters_of(rest, self._space)}

    def distributions(self, architecture: Architecture) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters of an architecture."""
        return {name: self._distributions[name] for name in self.values(architecture)}


def _reports(trial: Trial) -> list[tuple[int, float]]:
    found = trial.info.get("intermediate", ())
    return [(step, value) for step, value in found] if isinstance(found, list | tuple) else []


def _attributes(trial: Trial) -> Mapping[str, Any]:
    own: dict[str, Any] = {"number": trial.number, "seed": trial.seed, "seconds": trial.seconds}
    if trial.fidelity is not None:
        own["fidelity"] = trial.fidelity
    if trial.error:
        own["error"] = trial.error
    return {f"automl_nas:{name}": value for name, value in own.items()}


def _told(directions: list[StudyDirection]) -> str:
    return ", ".join(direction.name.lower() for direction in directions)
