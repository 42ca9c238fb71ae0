"""Who works on what, since when, how fast, and who died: the state of queues and their workers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from automl_nas.cli import table
from automl_nas.run import duration, worker_name
from automl_nas_optuna.long_values import joined
from automl_nas_optuna.workers.presence import GRACE
from automl_nas_optuna.workers.queue import HEARTBEAT, LEFT, OUTCOME, WORKER, Entry, NoQueueError, Queue, open_queues

WINDOW = 3600.0
"""Seconds before now over which rates are computed."""


@dataclass(frozen=True)
class WorkerStatus:
    """A worker that joined a queue. Times are in seconds since 1970, by the worker's clock.

    Attributes:
        worker: ``host``, ``process``, ``device`` and ``versions``; see `describe_worker`.
        state: ``busy``, ``idle``, ``left`` (it ended in an orderly way), or ``silent``: its last sign of life is older
            than the grace period, so it is dead, suspended, or cannot reach the storage.
        joined: the time at which it joined.
        last_sign: the time of its last sign of life.
        trial: the number of the trial that it evaluates; None: none.
        since: the time at which it claimed that trial.
        complete: the number of evaluations whose outcomes it delivered.
        per_hour: the rate of those in the last hour.
        deaths: the number of evaluations that another worker had to repeat, because this one gave no sign of life.
    """

    worker: Mapping[str, Any]
    state: str
    joined: float
    last_sign: float
    trial: int | None
    since: float | None
    complete: int
    per_hour: float
    deaths: int


@dataclass(frozen=True)
class QueueStatus:
    """The queue of a run.

    Attributes:
        name: of the study.
        directory: the run directory, as the run's machine names it.
        running: the number of evaluations that workers have claimed.
        waiting: the number of evaluations that no worker has claimed.
        complete: the number of delivered outcomes.
        returned: the number of evaluations that workers returned when they left.
        withdrawn: the number of evaluations that the run withdrew when it was stopped.
        deaths: the number of evaluations during which a worker died.
        per_hour: delivered outcomes an hour, in the last hour.
        workers: all that joined, in that order.
    """

    name: str
    directory: str
    running: int
    waiting: int
    complete: int
    returned: int
    withdrawn: int
    deaths: int
    per_hour: float
    workers: Sequence[WorkerStatus]


def queue_statuses(storage: str, study: str | None) -> list[QueueStatus]:
    """Return the state of the queues in a storage.

    Args:
        storage: see `open_storage`.
        study: the name of a queue, also of a run that is not running; None: all that are open.

    Raises:
        NoQueueError: the queue does not exist, or none is open.
        StorageError: the storage cannot be reached.
    """
    names = [study] if study else open_queues(storage)
    if not names:
        raise NoQueueError("no run has an open queue in this storage; name the queue of a run that ended with --study")
    return [_queue_status(storage, name) for name in names]


def status_lines(status: QueueStatus) -> list[str]:
    """Return the state of a queue as text: one line, and a table of the workers that have not left."""
    now = time.time()
    present = [worker for worker in status.workers if worker.state != "left"]
    lines = [
        f"{status.name} ({status.directory}): {status.running} running, {status.waiting} waiting, "
        f"{status.complete} complete, {_rate(status.per_hour)} an hour; workers: {len(present)} present, "
        f"{len(status.workers) - len(present)} left, {status.deaths} {'death' if status.deaths == 1 else 'deaths'}"
    ]
    rows = [
        [
            worker_name(worker.worker),
            worker.state if worker.trial is None else f"{worker.state}: trial {worker.trial}",
            _ago(worker.since, now),
            _ago(worker.last_sign, now),
            _ago(worker.joined, now),
            str(worker.complete),
            _rate(worker.per_hour),
            str(worker.deaths),
        ]
        for worker in present
    ]
    header = ["worker", "state", "for", "last sign", "joined", "complete", "an hour", "deaths"]
    return lines + (table(header, rows, left=2, indent="  ") if rows else [])


def _queue_status(storage: str, name: str) -> QueueStatus:
    queue = Queue(storage, name)
    try:
        description = queue.join()
        registered, entries = queue.registered(), queue.entries()
    finally:
        queue.close()
    now, grace = time.time(), float(description.get("grace", GRACE))
    of: dict[str | None, list[Entry]] = {}
    for entry in entries:
        of.setdefault(entry.attributes.get(WORKER, {}).get("key"), []).append(entry)
    workers = [_worker_status(record, of.get(key, []), now, grace) for key, record in registered.items()]
    states = [entry.state for entry in entries]
    lost = [entry for entry in entries if entry.state is TrialState.FAIL]
    returned = sum(bool(entry.attributes.get(LEFT)) for entry in lost)
    deaths = sum(_is_death(entry) for entry in entries)
    return QueueStatus(
        name=name,
        directory=description["directory"],
        running=states.count(TrialState.RUNNING),
        waiting=states.count(TrialState.WAITING),
        complete=states.count(TrialState.COMPLETE),
        returned=returned,
        withdrawn=len(lost) - returned - deaths,
        deaths=deaths,
        per_hour=_per_hour(entries, min((worker.joined for worker in workers), default=now), now),
        workers=sorted(workers, key=lambda worker: worker.joined),
    )


def _worker_status(record: Mapping[str, Any], entries: Sequence[Entry], now: float, grace: float) -> WorkerStatus:
    """Return the state of a worker from its record and the evaluations that it claimed."""
    worker = {name: record[name] for name in ("host", "process", "device", "versions")}
    current = next((entry for entry in entries if entry.state is TrialState.RUNNING), None)
    signs = [record["joined"], record["seen"], record["left"], *(sign for entry in entries for sign in _signs(entry))]
    last = max(sign for sign in signs if sign is not None)
    if record["left"] is not None:
        state = "left"
    elif now - last > grace:
        state = "silent"
    else:
        state = "idle" if current is None else "busy"
    return WorkerStatus(
        worker=worker,
        state=state,
        joined=record["joined"],
        last_sign=last,
        trial=None if current is None else current.request["number"],
        since=None if current is None else current.attributes[WORKER]["since"],
        complete=sum(entry.state is TrialState.COMPLETE for entry in entries),
        per_hour=_per_hour(entries, record["joined"], now),
        deaths=sum(_is_death(entry) for entry in entries),
    )


def _signs(entry: Entry) -> tuple[float | None, ...]:
    """Return the times at which the worker of an evaluation gave a sign of life."""
    return entry.attributes[WORKER]["since"], entry.attributes.get(HEARTBEAT), _ended(entry)


def _ended(entry: Entry) -> float | None:
    """Return the time at which the outcome of an evaluation was delivered; None: it has none."""
    ended: float | None = (joined(entry.attributes, OUTCOME) or {}).get("ended")
    return ended if entry.state is TrialState.COMPLETE else None


def _is_death(entry: Entry) -> bool:
    """Whether a worker claimed an evaluation and neither ended nor returned it; others were withdrawn unclaimed."""
    claimed = entry.begun is not None or WORKER in entry.attributes
    return entry.state is TrialState.FAIL and claimed and not entry.attributes.get(LEFT)


def _per_hour(entries: Sequence[Entry], begun: float, now: float) -> float:
    """Return the delivered outcomes an hour in the last hour, or since `begun` if that is later."""
    window = min(WINDOW, now - begun)
    ended = [at for entry in entries if (at := _ended(entry)) is not None and at > now - WINDOW]
    return 3600.0 * len(ended) / window if window > 0 else 0.0


def _rate(per_hour: float) -> str:
    return f"{per_hour:,.0f}" if per_hour >= 10 else f"{per_hour:.2g}"


def _ago(at: float | None, now: float) -> str:
    """Return how long ago a time is, in whole seconds, since it compares the clocks of two machines."""
    return "" if at is None else duration(max(0.0, round(now - at)))
