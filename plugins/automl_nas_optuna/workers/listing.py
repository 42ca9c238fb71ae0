"""Which worker evaluates which trial."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from optuna.trial import TrialState

from automl_nas.run import duration
from automl_nas_optuna.workers.queue import HEARTBEAT, WORKER, Entry, Queue
from automl_nas_optuna.workers.worker import find_queue


def busy_workers(storage: str, study: str | None) -> Iterator[str]:
    """Yield a line for each trial that a worker evaluates, and one with the numbers of waiting and ended evaluations.

    Args:
        storage: see `open_storage`.
        study: the name of the queue; None: the one that is open.

    Raises:
        NoQueueError: the queue does not exist, or none is open.
        ConfigurationError: several queues are open.
        StorageError: the storage cannot be reached.
    """
    queue = Queue(storage, study or find_queue(storage))
    try:
        queue.join()
        entries = queue.entries()
    finally:
        queue.close()
    for entry in entries:
        if entry.state is TrialState.RUNNING:
            yield _line(entry)
    states = [entry.state for entry in entries]
    yield (
        f"{queue.name}: {states.count(TrialState.RUNNING)} evaluated, {states.count(TrialState.WAITING)} waiting, "
        f"{states.count(TrialState.COMPLETE)} complete, {states.count(TrialState.FAIL)} abandoned"
    )


def _line(entry: Entry) -> str:
    """Return the line of an evaluation; its times are rounded, since they compare the clocks of two machines."""
    since = "" if entry.begun is None else f" for {duration(_positive((datetime.now() - entry.begun).total_seconds()))}"
    beat = entry.attributes.get(HEARTBEAT)
    last = "" if beat is None else f", last heartbeat {duration(_positive(time.time() - beat))} ago"
    return f"trial {entry.request['number']}: {entry.attributes.get(WORKER, 'a worker')}{since}{last}"


def _positive(seconds: float) -> float:
    return max(0.0, round(seconds))
