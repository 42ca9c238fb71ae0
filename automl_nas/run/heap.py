"""Python's garbage collector while a run is driven."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heap_frozen() -> Iterator[None]:
    """Keep the collector from looking again and again at all that existed before.

    Of the several hundred thousand objects that importing torch leaves behind nothing becomes garbage, but a full
    collection visits each, and the growing record of a search causes full collections: without this they take as long
    as writing the ledger does. Somebody who froze the heap himself keeps it as it is.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
