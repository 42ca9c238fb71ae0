"""An executor whose workers are processes anywhere: they take evaluations from an Optuna storage."""

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
from automl_nas.run import Crash, EvaluatorSource, Executor, StageEvaluator
from automl_nas_optuna.queues import (
    BEAT,
    ERROR,
    LEFT,
    OUTCOME,
    WORKER,
    Entry,
    Queue,
    identity,
    read_outcome,
    serialize_request,
)
from automl_nas_optuna.storages import StorageError

_log = logging.getLogger(__name__)

BEATS = 6
"""A worker gives a sign of life so many times before its silence counts as death."""

_SLOWEST = 30.0


@dataclass
class _Sent:
    """An evaluation that is outstanding: where it is in the queue, and the last sign of life of its worker."""

    request: dict[str, Any]
    key: int
    beat: object = None
    seen: float = 0.0
    deaths: int = 0


@final
class OptunaExecutor(Executor):
    """Puts evaluations into an Optuna storage, where ``automl-nas worker`` processes of any machine take them.

    Workers come and go. A worker that leaves gives back what it was doing; one that is silent for too long is taken for
    dead, and what it was doing is given to another. Whatever it does later cannot be recorded, so nothing is recorded
    twice. A run that is stopped or killed finds the results that have come in meanwhile when it is resumed. While
    the storage is down the run waits.

    Args:
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file; ``${NAME}`` is filled in from
            the environment.
        study: the study that is the queue; null: the name of the run directory and ``/queue``.
        grace: seconds without a sign of life after which a worker is taken for dead.
        retries: so many more times is an evaluation begun whose worker died; then its trial is FAILED.
        poll: seconds between two looks into the storage.
    """

    def __init__(
        self, *, storage: str, study: str | None = None, grace: float = 60.0, retries: int = 3, poll: float = 0.2
    ) -> None:
        for name, value in (("grace", grace), ("poll", poll)):
            if value <= 0:
                raise ConfigurationError(f"must be positive, not {value}", path=name)
        if retries < 0:
            raise ConfigurationError(f"must not be negative, but is {retries}", path="retries")
        self._address, self._name, self._grace, self._retries, self._poll = storage, study, grace, retries, poll
        self._unsent: deque[dict[str, Any]] = deque()
        self._sent: dict[int, _Sent] = {}
        self._known: dict[int, Entry] = {}
        self._down = False
        self._pause = poll

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Open the queue, and look what is in it; see `Executor.open`.

        Raises:
            ConfigurationError: the configuration holds Python objects, which workers cannot have; the study is there
                and is something else.
            StorageError: the storage cannot be reached.
        """
        if not isinstance(source, StageEvaluator):
            raise ConfigurationError("workers make their evaluators from a configuration", path="executor")
        told = source.portable()
        self._starting, self._stage = starting, told["stage"]
        directory = source.directory
        self._queue = Queue(self._address, self._name or f"{directory.name}/queue")
        self._terms = {"pulse": self._grace / BEATS, "timeout": timeout}
        self._queue.create({**told, "run": identity(directory)})
        for entry in self._queue.entries():
            if entry.request["stage"] == self._stage and entry.state is not TrialState.FAIL:
                self._known[entry.request["number"]] = entry

    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""
        self._unsent.append(serialize_request(request, self._stage))

    def resubmit(self, request: Request) -> bool:
        """Accept a request whose evaluation an earlier process began: it may be going on, or done."""
        self.submit(request)
        return True

    def next(self) -> Outcome | Crash | None:
        """Look into the storage."""
        try:
            self._send()
            for number, sent in list(self._sent.items()):
                if (outcome := self._look(number, sent)) is not None:
                    return outcome
            self._back()
        except StorageError as error:
            self._lost(error)
        time.sleep(self._pause)
        return None

    def close(self) -> list[int]:
        """Take back what no worker has begun; what is being evaluated goes on, and is found when the run is resumed."""
        begun = list(self._sent)
        try:
            for sent in self._sent.values():
                if self._queue.get(sent.key).state is TrialState.WAITING:
                    self._queue.end(sent.key, complete=False)
        except StorageError:
            pass  # workers go on with it, and it is found like the others
        self._queue.close(finished=True)
        self._unsent.clear()
        self._sent.clear()
        self._known.clear()
        return begun

    def _send(self) -> None:
        while self._unsent:
            request = self._unsent[0]
            number = request["number"]
            known = self._known.get(number)
            if known is not None and dict(known.request) == request:
                key = known.key
            else:
                if number not in self._sent:
                    self._starting([number])
                key = self._queue.put(request, self._terms)
            self._sent[number] = _Sent(request, key, seen=time.monotonic())
            self._unsent.popleft()

    def _look(self, number: int, sent: _Sent) -> Outcome | None:
        entry = self._queue.get(sent.key)
        attributes, now = entry.attributes, time.monotonic()
        if entry.state is TrialState.COMPLETE:
            del self._sent[number]
            if ERROR in attributes:
                raise EvaluationError(str(attributes[ERROR]))
            return read_outcome(number, attributes[OUTCOME])
        if entry.state is TrialState.FAIL:
            return self._again(number, sent, died=not attributes.get(LEFT))
        beat = (entry.state, attributes.get(BEAT))
        if beat != sent.beat or entry.state is TrialState.WAITING:
            sent.beat, sent.seen = beat, now
        elif now - sent.seen > self._grace and self._queue.end(sent.key, complete=False):
            _log.warning(
                "trial %d: its worker (%s) has given no sign of life for %.3g s",
                number,
                attributes.get(WORKER),
                self._grace,
            )
            return self._again(number, sent, died=True)
        return None

    def _again(self, number: int, sent: _Sent, *, died: bool) -> Outcome | None:
        sent.deaths += died
        if sent.deaths > self._retries:
            del self._sent[number]
            return Outcome(number, state=State.FAILED, error=f"{sent.deaths} workers died while they evaluated it")
        sent.key, sent.beat, sent.seen = self._queue.put(sent.request, self._terms), None, time.monotonic()
        return None

    def _lost(self, error: StorageError) -> None:
        if not self._down:
            _log.warning("%s; the run waits until it is back", error)
        self._down, self._pause = True, min(self._pause * 2, _SLOWEST)
        self._queue.drop_connection()

    def _back(self) -> None:
        if self._down:
            _log.warning("the Optuna storage is back")
            for sent in self._sent.values():  # nobody could give a sign of life
                sent.seen = time.monotonic()
        self._down, self._pause = False, self._poll
