"""A clock that runs fast: `fast_clock`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_FUNCTIONS = ("time", "monotonic", "perf_counter", "process_time")


@contextmanager
def fast_clock(seconds: float = 5.0) -> Iterator[None]:
    """Let every call of a function of `time` be this much later than the one before: work seems to take long.

    Args:
        seconds: from call to call.
    """
    originals = {name: getattr(time, name) for name in _FUNCTIONS}
    calls = 0

    def faster(original: Callable[[], float]) -> Callable[[], float]:
        def now() -> float:
            nonlocal calls
            calls += 1
            return original() + seconds * calls

        return now

    try:
        for name, original in originals.items():
            setattr(time, name, faster(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(time, name, original)
