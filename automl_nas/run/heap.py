"""Python's garbage collector while a run is driven."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

_TRIALS = 5000
_QUICK = 1e-3


@final
class Heap:
    """Keeps the collector from looking again and again at a record that grows quickly.

    Args:
        frozen: whether what exists may be frozen.
    """

    def __init__(self, *, frozen: bool) -> None:
        self._frozen, self._trials, self._since = frozen, 0, time.monotonic()

    def grown(self, trials: int) -> None:
        """Freeze what exists, garbage aside, after every 5,000 trials that took less than a millisecond each.

        A network that lives at this moment and becomes garbage in a cycle later stays until the run ends. Trials that
        are so quick have none.

        Args:
            trials: recorded so far.
        """
        if not self._frozen or trials < self._trials + _TRIALS:
            return
        now = time.monotonic()
        if now - self._since < (trials - self._trials) * _QUICK:
            gc.collect()
            gc.freeze()
        self._trials, self._since = trials, now


@contextmanager
def heap_frozen() -> Iterator[Heap]:
    """Keep the collector from looking again and again at all that existed before.

    Of the several hundred thousand objects that importing torch leaves behind nothing becomes garbage, but a full
    collection visits each, and the growing record of a search causes full collections: without this they take as long
    as writing the ledger does. Somebody who froze the heap himself keeps it as it is.
    """
    if gc.get_freeze_count():
        yield Heap(frozen=False)
        return
    gc.freeze()
    try:
        yield Heap(frozen=True)
    finally:
        gc.unfreeze()
