"""Interruption by Ctrl-C and SIGTERM: the first signal stops a run at its next safe point, the second one at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class StopFlag:
    """Whether a signal asked the run to stop.

    Attributes:
        requested: set by the first signal.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self, on_request: Callable[[], object]) -> Iterator[None]:
        """Catch SIGINT and SIGTERM within the context. Outside the main thread, where that is impossible, do nothing.

        Args:
            on_request: called at the first signal, inside the signal handler.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            on_request()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
