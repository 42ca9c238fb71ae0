"""`OptunaExecutor`: an executor whose workers, on any machine, take evaluations from an Optuna storage."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from optuna.trial import TrialState

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation import Outcome, Request, State
from automl_nas.plugin import join
from automl_nas.run import (
    Crash,
    EvaluatorSource,
    Executor,
    Rehearsal,
    StageEvaluator,
    read_outcome,
    serialize_request,
)
from automl_nas_optuna.long_values import joined
from automl_nas_optuna.storages import StorageError, check_storage, refuse_password
from automl_nas_optuna.workers.queue import (
    ERROR,
    HEARTBEAT,
    LEFT,
    OUTCOME,
    WORKER,
    Entry,
    Queue,
    run_identifier,
)

_log = logging.getLogger(__name__)

HEARTBEATS = 6
"""The number of heartbeats that a worker gives in ``grace`` seconds."""

_MAX_RETRY_SECONDS = 30.0
_SEND_SECONDS = 5.0
"""Seconds after which no further evaluation is sent before outcomes are read: a slow storage takes seconds for each."""


@dataclass
class _Sent:
    """An outstanding evaluation.

    Attributes:
        request: the serialized request.
        key: the key of its entry in the queue.
        changed: the time (`time.monotonic`) at which the heartbeat last changed.
        heartbeat: the state of the entry and the last heartbeat of its worker.
        deaths: the number of workers that died while they evaluated it.
    """

    request: dict[str, Any]
    key: int
    changed: float
    heartbeat: object = None
    deaths: int = 0


@final
class OptunaExecutor(Executor):
    """Puts evaluations into an Optuna storage, where ``automl-nas worker`` processes of any machine take them.

    Workers may join and leave at any time. A worker that leaves returns its evaluation to the queue. A worker without a
    heartbeat for ``grace`` seconds counts as dead, and another worker repeats its evaluation; an outcome that the first
    worker delivers later is rejected, so no trial is recorded twice. Outcomes delivered while the run is stopped or
    killed are read when the run is resumed. While the storage is down, the run waits.

    Args:
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file; ``${NAME}`` is replaced by
            the environment variable.
        study: the name of the study used as the queue; null: the name of the run directory, followed by ``/queue``.
        grace: seconds without a heartbeat after which a worker counts as dead.
        retries: how often an evaluation is repeated after its worker died; after that the trial is FAILED.
        poll: seconds between two reads of the storage.
    """

    remote = True

    def __init__(
        self, *, storage: str, study: str | None = None, grace: float = 60.0, retries: int = 3, poll: float = 0.2
    ) -> None:
        for name, value in (("grace", grace), ("poll", poll)):
            if value <= 0:
                raise ConfigurationError(f"must be positive, got {value}", path=name)
        refuse_password(storage)
        if retries < 0:
            raise ConfigurationError(f"must not be negative, got {retries}", path="retries")
        self._address, self._name, self._grace, self._retries, self._poll = storage, study, grace, retries, poll
        self._unsent: deque[dict[str, Any]] = deque()
        self._sent: dict[int, _Sent] = {}
        # Trial number -> entry of an earlier process of this run.
        self._entries: dict[int, Entry] = {}
        # Outcomes that were read and not returned yet; an error comes after the outcomes that were read before it.
        self._outcomes: deque[Outcome | EvaluationError] = deque()
        self._down = False
        self._pause = poll

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Check that the configuration holds names only and that the storage can be opened; see `Executor.rehearse`."""
        rehearsal.require_names()
        check_storage(self._address, path="executor.storage")

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Open the queue and read its entries; see `Executor.open`.

        Raises:
            ConfigurationError: the configuration contains Python objects, which cannot be sent to workers; or the study
                exists and is not the queue of this run.
            StorageError: the storage cannot be reached.
        """
        if not isinstance(source, StageEvaluator):
            raise ConfigurationError(
                "workers construct their evaluators from a configuration, and the evaluators of this run have none",
                path="executor",
            )
        description = source.portable()
        self._starting, self._stage = starting, description["stage"]
        directory = source.directory
        self._queue = Queue(self._address, self._name or f"{directory.name}/queue")
        self._terms = {"pulse": self._grace / HEARTBEATS, "timeout": timeout}
        try:
            self._queue.create({**description, "run": run_identifier(directory), "grace": self._grace})
        except ConfigurationError as error:  # of a setting of the executor
            raise ConfigurationError(error.message, path=join("executor", error.path)) from error
        for entry in self._queue.entries():
            if entry.request["stage"] == self._stage and entry.state is not TrialState.FAIL:
                self._entries[entry.request["number"]] = entry

    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""
        self._unsent.append(serialize_request(request, self._stage))

    def resubmit(self, request: Request) -> bool:
        """Accept a request that an earlier process submitted: its evaluation may be going on or complete."""
        self.submit(request)
        return True

    def next(self) -> Outcome | Crash | None:
        """Return the next outcome; without one, read the storage once, and pause for ``poll`` seconds.

        Raises:
            EvaluationError: an evaluator broke its contract, or a worker's evaluation ended with an error.
        """
        if not self._outcomes:
            try:
                try:
                    self._send()
                finally:
                    self._read()  # a database that refuses to append, since a row is locked, can still be read
                self._storage_is_back()
            except StorageError as error:
                self._storage_is_down(error)
        if not self._outcomes:
            time.sleep(self._pause)
            return None
        outcome = self._outcomes.popleft()
        if isinstance(outcome, EvaluationError):
            raise outcome
        return outcome

    def close(self) -> list[int]:
        """Withdraw the evaluations that no worker has begun; return the numbers of all that are outstanding.

        Workers continue the evaluations that they have begun; their outcomes are read when the run is resumed.
        """
        outstanding = [*self._sent, *(item.number for item in self._outcomes if isinstance(item, Outcome))]
        outstanding += [request["number"] for request in self._unsent if self._entry(request) is not None]
        try:
            keys = {sent.key for sent in self._sent.values()}
            for key, entry in self._queue.read(keys).items() if keys else ():
                if entry.state is TrialState.WAITING:
                    self._queue.end(key, complete=False)
        except (StorageError, ConfigurationError):
            # The storage is down, or the study was deleted. Workers then evaluate them, and the resumed run reads their
            # outcomes.
            pass
        self._queue.close(finished=True)
        self._unsent.clear()
        self._sent.clear()
        self._outcomes.clear()
        self._entries.clear()
        return outstanding

    def _send(self) -> None:
        """Send what was submitted; the rest in the next call if it takes longer than `_SEND_SECONDS`."""
        begun = time.monotonic()
        while self._unsent and (not self._sent or time.monotonic() - begun < _SEND_SECONDS):
            request = self._unsent[0]
            number = request["number"]
            if (earlier := self._entry(request)) is not None:
                key = earlier.key
            else:
                if number not in self._sent:
                    self._starting([number])
                key = self._queue.put(request, self._terms)
            self._sent[number] = _Sent(request, key, time.monotonic())
            self._unsent.popleft()

    def _entry(self, request: dict[str, Any]) -> Entry | None:
        """Return the entry of an earlier process of this run for a request."""
        earlier = self._entries.get(request["number"])
        return earlier if earlier is not None and dict(earlier.request) == request else None

    def _read(self) -> None:
        """Read all outstanding evaluations in one transaction; collect the outcomes of those that have ended."""
        if not self._sent:
            return
        entries = self._queue.read({sent.key for sent in self._sent.values()})
        for number, sent in list(self._sent.items()):
            try:
                outcome = self._outcome(number, sent, entries[sent.key])
            except EvaluationError as error:
                self._outcomes.append(error)
                return
            if outcome is not None:
                self._outcomes.append(outcome)

    def _outcome(self, number: int, sent: _Sent, entry: Entry) -> Outcome | None:
        """Return the outcome of an evaluation if it has one; send it again if its worker died or left."""
        attributes, now = entry.attributes, time.monotonic()
        if entry.state is TrialState.COMPLETE:
            del self._sent[number]
            if ERROR in attributes:
                raise EvaluationError(str(attributes[ERROR]))
            return read_outcome(number, joined(attributes, OUTCOME))
        if entry.state is TrialState.FAIL:
            return self._repeat(number, sent, died=not attributes.get(LEFT))
        heartbeat = (entry.state, attributes.get(HEARTBEAT))
        if heartbeat != sent.heartbeat or entry.state is TrialState.WAITING:
            sent.heartbeat, sent.changed = heartbeat, now
        elif now - sent.changed > self._grace and self._queue.end(sent.key, complete=False):
            _log.warning(
                "trial %d: its worker (%s) has sent no heartbeat for %.3g s and counts as dead",
                number,
                attributes.get(WORKER, {}).get("name", "unknown"),
                self._grace,
            )
            return self._repeat(number, sent, died=True)
        return None

    def _repeat(self, number: int, sent: _Sent, *, died: bool) -> Outcome | None:
        sent.deaths += died
        if sent.deaths > self._retries:
            del self._sent[number]
            return Outcome(number, state=State.FAILED, error=f"{sent.deaths} workers died while they evaluated it")
        sent.key, sent.heartbeat, sent.changed = self._queue.put(sent.request, self._terms), None, time.monotonic()
        return None

    def _storage_is_down(self, error: StorageError) -> None:
        if not self._down:
            _log.warning("%s; the run waits until it is back", error)
        self._down, self._pause = True, min(self._pause * 2, _MAX_RETRY_SECONDS)
        self._queue.drop_connection()

    def _storage_is_back(self) -> None:
        if self._down:
            _log.warning("the Optuna storage is back")
            for sent in self._sent.values():  # no worker could send a heartbeat
                sent.changed = time.monotonic()
        self._down, self._pause = False, self._poll
