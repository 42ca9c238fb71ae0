"""`Presence`: what a worker records about itself in the queue."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any, final

from automl_nas.run import worker_name
from automl_nas_optuna.workers.queue import Queue

GRACE = 60.0
"""Seconds without a sign of life after which a worker counts as dead, if the queue does not say."""


@final
class Presence:
    """A worker's record in a queue: who it is, since when, its last sign of life while it is idle, and that it left.

    While a worker evaluates, its heartbeats are its signs of life.

    Args:
        worker: see `describe_worker`.
        grace: seconds without a sign of life after which a worker counts as dead.

    Attributes:
        key: identifies the worker; processes that are started again have another one.
        worker: as given.
        name: how the worker is called in messages.
    """

    def __init__(self, worker: Mapping[str, Any], grace: float) -> None:
        self.key, self.worker, self.name = uuid.uuid4().hex[:12], worker, worker_name(worker)
        self._joined, self._pulse, self._due = time.time(), grace / 2, 0.0

    def join(self, queue: Queue) -> None:
        """Record that the worker joined the queue."""
        queue.register(self.key, {**self.worker, "joined": self._joined, "left": None})
        self._due = time.monotonic() + self._pulse

    def seen(self, queue: Queue) -> None:
        """Record a sign of life, if the last one is half of the grace period ago."""
        if time.monotonic() >= self._due:
            queue.seen(self.key, time.time())
            self._due = time.monotonic() + self._pulse

    def leave(self, queue: Queue) -> None:
        """Record that the worker left. The queue may be a new connection."""
        queue.join()
        queue.register(self.key, {**self.worker, "joined": self._joined, "left": time.time()})
