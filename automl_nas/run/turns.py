"""Runs of several threads take turns: the global random generators, which a run seeds, belong to the whole process."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

from automl_nas.run.interruption import StopFlag, interrupted

_log = logging.getLogger("automl_nas")

_working = threading.RLock()
"""Held by the thread that works on a run. A run that is started within a run, in the same thread, does not wait."""

_LOOK = 0.2
"""Seconds between two looks at whether a waiting run must stop."""


@contextlib.contextmanager
def own_turn(path: Path, stop: StopFlag) -> Iterator[None]:
    """Wait until no other thread of this process works on a run; within the context, others wait.

    Args:
        path: the run directory, which may not exist yet.
        stop: whether to stop waiting.

    Raises:
        RunInterrupted: the run was asked to stop while it waited.
    """
    try:
        if not _working.acquire(blocking=False):
            _log.info("waiting: another thread of this process works on a run, and one works at a time")
            while not _working.acquire(timeout=_LOOK):
                stop.check()
    except KeyboardInterrupt as error:
        raise (stop.error(path) if stop.cause is not None else interrupted(path, reason=error)) from None
    try:
        yield
    finally:
        _working.release()
