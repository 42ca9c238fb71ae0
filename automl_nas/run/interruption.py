"""Interruption by Ctrl-C and SIGTERM.

Before a run begins, a signal raises KeyboardInterrupt. In a run, the first signal stops the run at its next safe point,
the second one at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_signalled = False
"""Whether a signal raised KeyboardInterrupt, which the code that it interrupted may have suppressed."""


_deferring = False
"""Whether code runs that must not be interrupted, within `uninterrupted`."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let the first signal raise KeyboardInterrupt at the end of this context, which is inside `interruptible`.

    For the import of torch: a process whose import of torch was interrupted may crash when it ends.
    """
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False
    check_interruption()


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
        defer = _deferring and not _signalled
        _signalled = True
        if not defer:
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


def after_interruption(path: Path, cause: BaseException | None = None) -> str:
    """Return the message after an interruption: how to continue the run, or that no run was begun.

    It imports nothing that imports torch: to import torch again after its import was interrupted aborts the process.

    Args:
        path: the run directory, which may not exist yet.
        cause: the exception, whose message is included.
    """
    from automl_nas.errors import AutoMLNASError
    from automl_nas.run.hints import way_to_resume
    from automl_nas.run.record.directory import RunDirectory

    directory = RunDirectory(path)
    stopped = f"stopped: {cause}" if cause is not None and str(cause) else "stopped"
    if not directory.config.exists():
        return f"{stopped}; the run had not begun, and nothing was recorded: start it again"
    config: Mapping[str, Any] = {}
    with contextlib.suppress(AutoMLNASError):  # damaged: resuming says how
        config = directory.read_config()
    return f"{stopped}; to continue: {way_to_resume(path, config)}"


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
