"""Python's garbage collector while a run is driven."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

_QUICK = 1e-3
_LOOKED_AT = 100
_FROZEN = 5000
_YOUNG = 10_000


@final
class GcTuner:
    """Keeps the collector from looking again and again at a record that grows quickly.

    While trials take less than a millisecond each, it looks at young objects after 10,000 allocations instead of the
    usual 700, most of which are gone by then, and the record is frozen after every 5,000 trials. Slower trials may have
    networks, and those shall be gone as soon as ever: for them the collector is as it was.

    Args:
        ours: whether the collector's settings may be changed.
    """

    def __init__(self, *, ours: bool) -> None:
        self._usual = gc.get_threshold()
        self._ours = ours and 0 < self._usual[0] < _YOUNG
        self._quick, self._trials, self._since, self._from = False, 0, time.monotonic(), 0

    def grown(self, trials: int) -> None:
        """Look how quick the last hundred trials were.

        Args:
            trials: recorded so far.
        """
        if not self._ours or trials < self._trials + _LOOKED_AT:
            return
        now = time.monotonic()
        quick = now - self._since < (trials - self._trials) * _QUICK
        self._trials, self._since = trials, now
        if not quick:
            self._from = trials
        if quick != self._quick:
            self._quick = quick
            gc.set_threshold(_YOUNG if quick else self._usual[0], *self._usual[1:])
        if trials >= self._from + _FROZEN:
            gc.collect()  # garbage in a cycle would stay until the run ends
            gc.freeze()
            self._from = trials

    def close(self) -> None:
        """Set the collector to what it was."""
        if self._ours:
            gc.set_threshold(*self._usual)


@contextmanager
def heap_frozen() -> Iterator[GcTuner]:
    """Keep the collector from looking again and again at all that existed before.

    Of the several hundred thousand objects that importing torch leaves behind nothing becomes garbage, but a full
    collection visits each, and the growing record of a search causes full collections: without this they take as long
    as writing the ledger does. Somebody who froze the heap himself keeps it as it is.
    """
    if gc.get_freeze_count():
        yield GcTuner(ours=False)
        return
    gc.freeze()
    heap = GcTuner(ours=True)
    try:
        yield heap
    finally:
        heap.close()
        gc.unfreeze()
