"""Interruption by Ctrl-C and SIGTERM.

Before a run begins, a signal raises KeyboardInterrupt. In a run, the first signal stops the run at its next safe point,
the second one at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_signalled = False
"""Whether a signal raised KeyboardInterrupt, which the code that it interrupted may have suppressed."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within the context, as Ctrl-C does.

    A handler that the application installed stays. Outside the main thread, where handlers cannot be installed, this
    does nothing.
    """
    global _signalled
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _signalled
        _signalled = True
        raise KeyboardInterrupt

    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    replaced = {number: handler for number, handler in before.items() if handler in defaults}
    for number in replaced:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
        if replaced:
            _signalled = False


def check_interruption() -> None:
    """Raise KeyboardInterrupt if a signal inside `interruptible` was suppressed by the code that it interrupted."""
    if _signalled:
        raise KeyboardInterrupt


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

        before = {number: signal.signal(number, stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
