"""A study as a queue of evaluations: what the run that fills it and the workers that empty it agree on.

Each evaluation is a trial of the study: WAITING until a worker claims it (which the storage decides), RUNNING while it
is evaluated, COMPLETE when its outcome stands in an attribute, FAIL when it was given up: its worker left or died, or
the run took it back. A trial never leaves COMPLETE or FAIL, so a worker that was given up cannot answer any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Outcome, Request, State
from automl_nas.run import read_json, to_json_values, write_json
from automl_nas.space import Architecture
from automl_nas_optuna.storages import StorageError, close, open_storage, quiet, reached, shown

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

QUEUE, OPEN = "automl_nas:queue", "automl_nas:open"
REQUEST, TERMS, OUTCOME, ERROR = "request", "terms", "outcome", "error"
BEAT, WORKER, LEFT = "beat", "worker", "left"
"""Attributes: of the study; and of its trials."""


@dataclass(frozen=True)
class Entry:
    """One evaluation in the queue.

    Attributes:
        key: of the trial in the storage.
        state: of the trial.
        request: the evaluation, as plain data.
        attributes: all of the trial's.
    """

    key: int
    state: TrialState
    request: Mapping[str, Any]
    attributes: Mapping[str, Any]


@final
class Queue:
    """A study that holds evaluations. All methods raise `StorageError` when the storage does not answer.

    Args:
        storage: see `open_storage`.
        name: of the study.
    """

    def __init__(self, storage: str, name: str) -> None:
        self.name, self._address = name, storage
        self._storage: BaseStorage | None = None
        self._study = -1

    def create(self, description: Mapping[str, Any]) -> None:
        """Make the study, or join the one that is there.

        Args:
            description: what workers need; ``run`` is the identity of the run.

        Raises:
            ConfigurationError: a study of the name is there, and is not the queue of this run.
        """
        from optuna.exceptions import DuplicatedStudyError

        with reached(self._address), quiet():
            self._connect()
            assert self._storage is not None
            try:
                self._study = self._storage.create_new_study([StudyDirection.MINIMIZE], self.name)
            except DuplicatedStudyError:
                self._study = self._storage.get_study_id_from_name(self.name)
                found = self._storage.get_study_user_attrs(self._study).get(QUEUE)
                if found is None or found["run"] != description["run"]:
                    whose = "the queue of another run" if found else "no queue"
                    raise ConfigurationError(
                        f"the study '{self.name}' in {shown(self._address)} is {whose}; choose another study, or "
                        "delete it",
                        path="study",
                    ) from None
            self._storage.set_study_user_attr(self._study, QUEUE, dict(description))
            self._storage.set_study_user_attr(self._study, OPEN, True)

    def join(self) -> Mapping[str, Any]:
        """Return the description of the queue.

        Raises:
            ConfigurationError: there is no such study, or it is no queue.
        """
        with reached(self._address), quiet():
            self._connect()
            assert self._storage is not None
            try:
                self._study = self._storage.get_study_id_from_name(self.name)
            except KeyError:
                raise ConfigurationError(f"{shown(self._address)} holds no study '{self.name}'") from None
            found: Mapping[str, Any] | None = self._storage.get_study_user_attrs(self._study).get(QUEUE)
        if found is None:
            raise ConfigurationError(f"the study '{self.name}' is no queue of evaluations")
        return found

    def put(self, request: Mapping[str, Any], terms: Mapping[str, Any]) -> int:
        """Append an evaluation; return its key.

        Args:
            request: see `serialize_request`.
            terms: ``pulse``, seconds between signs of life, and ``timeout``, seconds it may take or None.
        """
        with reached(self._address):
            self._connect()
            assert self._storage is not None
            template = create_trial(state=TrialState.WAITING, user_attrs={REQUEST: dict(request), TERMS: dict(terms)})
            return self._storage.create_new_trial(self._study, template)

    def get(self, key: int) -> Entry:
        """Return an evaluation."""
        with reached(self._address):
            self._connect()
            assert self._storage is not None
            return _entry(self._storage.get_trial(key))

    def entries(self, *states: TrialState) -> list[Entry]:
        """Return the evaluations in these states, in the order in which they were put."""
        with reached(self._address):
            self._connect()
            assert self._storage is not None
            trials = self._storage.get_all_trials(self._study, deepcopy=False, states=states or None)
            return [_entry(trial) for trial in trials if REQUEST in trial.user_attrs]

    def claim(self) -> Entry | None:
        """Take the first evaluation that waits; no other worker gets it. None: there is none."""
        for entry in self.entries(TrialState.WAITING):
            with reached(self._address):
                assert self._storage is not None
                try:
                    if self._storage.set_trial_state_values(entry.key, TrialState.RUNNING):
                        return entry
                except UpdateFinishedTrialError:
                    continue
        return None

    def note(self, key: int, **attributes: object) -> None:
        """Set attributes of an evaluation that runs; of one that is over nothing is changed."""
        with reached(self._address):
            self._connect()
            assert self._storage is not None
            for name, value in attributes.items():
                try:
                    self._storage.set_trial_user_attr(key, name, value)
                except UpdateFinishedTrialError:
                    return

    def end(self, key: int, *, complete: bool) -> bool:
        """End an evaluation; return False if it was over already."""
        state, values = (TrialState.COMPLETE, [0.0]) if complete else (TrialState.FAIL, None)
        with reached(self._address):
            self._connect()
            assert self._storage is not None
            try:
                return self._storage.set_trial_state_values(key, state, values)
            except UpdateFinishedTrialError:
                return False

    def close(self, *, finished: bool = False) -> None:
        """Let go of the storage.

        Args:
            finished: whether to tell workers that come later that nobody fills the queue.
        """
        if self._storage is not None:
            try:
                if finished:
                    with reached(self._address):
                        self._storage.set_study_user_attr(self._study, OPEN, False)
            except StorageError:
                pass  # it only saves late workers some waiting
            finally:
                close(self._storage)
                self._storage = None

    def drop_connection(self) -> None:
        """Connect anew at the next call: after an error a connection may be of no use."""
        self.close()

    def _connect(self) -> None:
        if self._storage is None:
            self._storage = open_storage(self._address)


def open_queues(storage: str) -> list[str]:
    """Return the names of the studies that runs fill with evaluations.

    Raises:
        StorageError: it cannot be reached.
    """
    opened = open_storage(storage)
    try:
        with reached(storage):
            return [study.study_name for study in opened.get_all_studies() if study.user_attrs.get(OPEN)]
    finally:
        close(opened)


def identity(directory: Path) -> str:
    """Return the identity of a run, which its queue belongs to: names of directories come again."""
    path = directory / "optuna_queue.json"
    if not path.exists():
        write_json(path, {"run": uuid.uuid4().hex})
    found: str = read_json(path)["run"]
    return found


def serialize_request(request: Request, stage: int) -> dict[str, Any]:
    """Return a request as plain data."""
    return {
        "number": request.number,
        "stage": stage,
        "architecture": request.architecture.to_dict(),
        "seed": request.seed,
        "fidelity": request.fidelity,
    }


def read_request(found: Mapping[str, Any], scratch: Path | None) -> Request:
    """Return a request from plain data."""
    architecture = Architecture(found["architecture"])
    made = Request(found["number"], architecture, found["seed"], found["fidelity"])
    vars(made)["_scratch"] = scratch
    return made


def told_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain data."""
    told: dict[str, Any] = to_json_values(
        {
            "metrics": {name: float(value) for name, value in outcome.metrics.items()},
            "state": outcome.state.value,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "info": outcome.info,
        }
    )
    return told


def read_outcome(number: int, found: Mapping[str, Any]) -> Outcome:
    """Return an outcome from plain data."""
    metrics = {name: float("nan") if value is None else value for name, value in found["metrics"].items()}
    return Outcome(number, metrics, State(found["state"]), found["error"], found["seconds"], found["info"])


def _entry(trial: FrozenTrial) -> Entry:
    return Entry(trial._trial_id, trial.state, trial.user_attrs[REQUEST], trial.user_attrs)
