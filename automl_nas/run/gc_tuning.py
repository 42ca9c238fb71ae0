"""Settings of Python's garbage collector while a run is driven.

Without this module a trial takes 9 microseconds more of 59 (batch 1), and 21 more of 48 (batch 100), in
``benchmarks/driver_overhead.py``: the collector visits the objects of torch and of the ledger again and again.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

_FAST_TRIAL = 1e-3
_UPDATE_TRIALS = 100
_FREEZE_TRIALS = 5000
_YOUNG = 10_000


@final
class GcTuner:
    """Keeps the collector from visiting a ledger that grows quickly again and again.

    While trials take less than a millisecond each, the collector visits young objects after 10,000 allocations instead
    of 700, because most of them are free by then, and the ledger is frozen after every 5,000 trials. Slower trials may
    have networks, which must be freed as soon as possible: for them the collector is as before.

    Args:
        enabled: whether the settings of the collector may be changed.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._thresholds = gc.get_threshold()
        self._enabled = enabled and 0 < self._thresholds[0] < _YOUNG
        self._fast, self._trials, self._updated, self._frozen = False, 0, time.monotonic(), 0

    def update(self, trials: int) -> None:
        """Measure how fast the last hundred trials were, and set the collector accordingly.

        Args:
            trials: number of recorded trials.
        """
        if not self._enabled or trials < self._trials + _UPDATE_TRIALS:
            return
        now = time.monotonic()
        fast = now - self._updated < (trials - self._trials) * _FAST_TRIAL
        self._trials, self._updated = trials, now
        if not fast:
            self._frozen = trials
        if fast != self._fast:
            self._fast = fast
            gc.set_threshold(_YOUNG if fast else self._thresholds[0], *self._thresholds[1:])
        if trials >= self._frozen + _FREEZE_TRIALS:
            gc.collect()  # otherwise garbage in cycles would stay until the run ends
            gc.freeze()
            self._frozen = trials

    def close(self) -> None:
        """Restore the settings of the collector."""
        if self._enabled:
            gc.set_threshold(*self._thresholds)


@contextmanager
def tuned_gc() -> Iterator[GcTuner]:
    """Keep the collector from visiting the objects that exist already.

    Importing torch leaves several hundred thousand objects, none of which becomes garbage. A full collection visits
    each of them, and the growing ledger of a search causes full collections. If the caller froze the heap, nothing is
    changed.
    """
    if gc.get_freeze_count():
        yield GcTuner(enabled=False)
        return
    gc.freeze()
    tuner = GcTuner(enabled=True)
    try:
        yield tuner
    finally:
        tuner.close()
        gc.unfreeze()
