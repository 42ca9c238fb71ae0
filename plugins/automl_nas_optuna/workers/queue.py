"""An Optuna study as a queue of evaluations: the run puts evaluations into it, and workers take them out.

Each evaluation is a trial of the study. It is WAITING until a worker claims it (the storage decides which worker gets
it), RUNNING while it is evaluated, COMPLETE when its outcome is stored in an attribute, and FAIL when it was abandoned:
its worker left or died, or the run withdrew it. A trial never leaves COMPLETE or FAIL, so a worker whose evaluation was
abandoned can no longer deliver an outcome.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from automl_nas.errors import ConfigurationError, DamagedError
from automl_nas.evaluation import Outcome
from automl_nas.run import read_json, serialize_outcome, write_json
from automl_nas_optuna.long_values import joined, split
from automl_nas_optuna.storages import StorageError, close, missing_file, open_storage, quiet, reached, without_password

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

QUEUE, OPEN = "automl_nas:queue", "automl_nas:open"
REQUEST, TERMS, OUTCOME, ERROR = "request", "terms", "outcome", "error"
HEARTBEAT, WORKER, LEFT = "beat", "worker", "left"
"""Names of attributes: the first line of the study, the others of its trials. LEFT: the worker left and is not dead.
WORKER: ``key`` of the worker, its ``name`` in messages, and ``since``, the time of the claim by its clock."""

PRESENT, SEEN = "automl_nas:worker:", "automl_nas:seen:"
"""First parts of the attributes of the study that workers set, followed by the key of the worker."""


class NoQueueError(ConfigurationError):
    """No run has opened a queue, or not the one that was named."""


@dataclass(frozen=True)
class Entry:
    """One evaluation in the queue.

    Attributes:
        key: the identifier of the trial in the storage.
        state: the state of the trial.
        request: the serialized request.
        attributes: all attributes of the trial.
        begun: when a worker claimed it, in the worker's local time; None: no worker has.
    """

    key: int
    state: TrialState
    request: Mapping[str, Any]
    attributes: Mapping[str, Any]
    begun: datetime | None = None


@final
class Queue:
    """A queue of evaluations. All methods raise `StorageError` if the storage does not respond.

    Args:
        storage: see `open_storage`.
        name: the name of the study.
    """

    def __init__(self, storage: str, name: str) -> None:
        self.name, self._address = name, storage
        self._storage: BaseStorage | None = None
        self._study = -1

    def create(self, description: Mapping[str, Any]) -> None:
        """Create the study, or open it if it exists.

        Args:
            description: what workers need; ``run`` is the identifier of the run.

        Raises:
            ConfigurationError: a study with this name exists and is not the queue of this run.
        """
        from optuna.exceptions import DuplicatedStudyError

        with quiet(), self._opened() as storage:
            try:
                self._study = storage.create_new_study([StudyDirection.MINIMIZE], self.name)
            except DuplicatedStudyError:
                self._study = storage.get_study_id_from_name(self.name)
                existing = joined(storage.get_study_user_attrs(self._study), QUEUE)
                if existing is None or existing["run"] != description["run"]:
                    what = "the queue of another run" if existing else "not a queue"
                    raise ConfigurationError(
                        f"the study '{self.name}' in {without_password(self._address)} is {what}; choose another "
                        "study, or delete it",
                        path="study",
                    ) from None
            for name, value in split(QUEUE, dict(description)):
                storage.set_study_user_attr(self._study, name, value)
            storage.set_study_user_attr(self._study, OPEN, True)

    def join(self) -> Mapping[str, Any]:
        """Open the existing study; return the description of the queue.

        Raises:
            NoQueueError: the study or the file of the storage does not exist, or the study is not a queue.
        """
        _refuse_missing_file(self._address)
        with quiet(), self._opened() as storage:
            try:
                self._study = storage.get_study_id_from_name(self.name)
            except KeyError:
                raise NoQueueError(
                    f"{without_password(self._address)} has no study '{self.name}'; start the run whose queue it is"
                ) from None
            description: Mapping[str, Any] | None = joined(storage.get_study_user_attrs(self._study), QUEUE)
        if description is None:
            raise NoQueueError(f"the study '{self.name}' is not a queue of evaluations")
        return description

    def put(self, request: Mapping[str, Any], terms: Mapping[str, Any]) -> int:
        """Append an evaluation; return its key.

        Args:
            request: see `serialize_request`.
            terms: ``pulse``, the seconds between heartbeats, and ``timeout``, the maximum number of seconds, or None.
        """
        with self._opened() as storage:
            attributes = {**dict(split(REQUEST, dict(request))), TERMS: dict(terms)}
            template = create_trial(state=TrialState.WAITING, user_attrs=attributes)
            return storage.create_new_trial(self._study, template)

    def read(self, keys: Container[int]) -> Mapping[int, Entry]:
        """Return the evaluations with these keys, read in one transaction: key -> evaluation."""
        return {entry.key: entry for entry in self._read(lambda trial: trial._trial_id in keys)}

    def entries(self, *states: TrialState) -> list[Entry]:
        """Return the evaluations in these states (default: in any state), oldest first."""
        return self._read(lambda trial: trial.state in states or not states)

    def _read(self, is_selected: Callable[[FrozenTrial], bool]) -> list[Entry]:
        with self._opened() as storage:
            trials = storage.get_all_trials(self._study, deepcopy=False)
            return [_entry(trial) for trial in trials if REQUEST in trial.user_attrs and is_selected(trial)]

    def claim(self) -> Entry | None:
        """Claim the oldest waiting evaluation, which no other worker can claim then; None if none is waiting."""
        for entry in self.entries(TrialState.WAITING):
            with self._opened() as storage:
                try:
                    if storage.set_trial_state_values(entry.key, TrialState.RUNNING):
                        return entry
                except UpdateFinishedTrialError:
                    continue
        return None

    def note(self, key: int, **attributes: object) -> None:
        """Set attributes of an evaluation; do nothing if it has ended."""
        with self._opened() as storage:
            try:
                for name, value in (part for item in attributes.items() for part in split(*item)):
                    storage.set_trial_user_attr(key, name, value)
            except UpdateFinishedTrialError:
                return

    def end(self, key: int, *, complete: bool) -> bool:
        """End an evaluation; return False if it had already ended."""
        state, values = (TrialState.COMPLETE, [0.0]) if complete else (TrialState.FAIL, None)
        with self._opened() as storage:
            try:
                return storage.set_trial_state_values(key, state, values)
            except UpdateFinishedTrialError:
                return False

    def register(self, worker: str, record: Mapping[str, Any]) -> None:
        """Set what is recorded of a worker, whose key this is."""
        with self._opened() as storage:
            storage.set_study_user_attr(self._study, PRESENT + worker, dict(record))

    def seen(self, worker: str, at: float) -> None:
        """Record the last sign of life of a worker that evaluates nothing, in seconds since 1970 by its clock."""
        with self._opened() as storage:
            storage.set_study_user_attr(self._study, SEEN + worker, at)

    def registered(self) -> dict[str, dict[str, Any]]:
        """Return the records of all workers that joined, with ``seen``: key of the worker -> record."""
        with self._opened() as storage:
            attributes = storage.get_study_user_attrs(self._study)
        keys = [name.removeprefix(PRESENT) for name in attributes if name.startswith(PRESENT)]
        return {key: {**attributes[PRESENT + key], "seen": attributes.get(SEEN + key)} for key in keys}

    def close(self, *, finished: bool = False) -> None:
        """Close the connection to the storage.

        Args:
            finished: whether to mark the queue as closed, so that workers that start later do not join it.
        """
        if self._storage is not None:
            try:
                if finished:
                    with reached(self._address):
                        self._storage.set_study_user_attr(self._study, OPEN, False)
            except (StorageError, KeyError):
                # The storage is down, or the study was deleted. Workers that start later then join the queue and leave
                # it when they have been idle.
                pass
            finally:
                close(self._storage)
                self._storage = None

    def drop_connection(self) -> None:
        """Reconnect in the next call: after an error, a connection may be unusable."""
        self.close()

    @contextmanager
    def _opened(self) -> Iterator[BaseStorage]:
        """Yield the storage, connected; convert the errors of storages.

        Raises:
            ConfigurationError: the study was deleted.
        """
        with reached(self._address):
            if self._storage is None:
                self._storage = open_storage(self._address)
            try:
                yield self._storage
            except KeyError:  # of Optuna: the study or the trial does not exist
                raise ConfigurationError(
                    f"the study '{self.name}' in {without_password(self._address)} was deleted while it was used; "
                    "resume the run, which creates it again"
                ) from None


def open_queues(storage: str) -> list[str]:
    """Return the names of the queues that are open: a run puts evaluations into them.

    Raises:
        NoQueueError: the storage is a file that does not exist.
        StorageError: the storage cannot be reached.
    """
    _refuse_missing_file(storage)
    opened = open_storage(storage)
    try:
        with reached(storage):
            return [study.study_name for study in opened.get_all_studies() if study.user_attrs.get(OPEN)]
    finally:
        close(opened)


def _refuse_missing_file(storage: str) -> None:
    """Raise an error instead of creating the file of a storage, whose path may be mistyped."""
    if (file := missing_file(storage)) is not None:
        raise NoQueueError(
            f"the storage {file.absolute()} does not exist; check the path, or start the run, which creates it"
        )


def run_identifier(directory: Path) -> str:
    """Return the random identifier of a run, stored in its directory: names of run directories are not unique.

    Raises:
        DamagedError: the file is damaged.
    """
    path = directory / "optuna_queue.json"
    if not path.exists():
        write_json(path, {"run": uuid.uuid4().hex})
    content = read_json(path)
    identifier = content.get("run") if isinstance(content, dict) else None
    if not isinstance(identifier, str):
        raise DamagedError(f"{path} is damaged: it has no identifier 'run'; restore it from a copy")
    return identifier


def delivered(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as it is stored in the queue, with the time of now by the worker's clock as ``ended``."""
    return {**serialize_outcome(outcome), "ended": time.time()}


def _entry(trial: FrozenTrial) -> Entry:
    request = joined(trial.user_attrs, REQUEST)
    return Entry(trial._trial_id, trial.state, request, trial.user_attrs, trial.datetime_start)
