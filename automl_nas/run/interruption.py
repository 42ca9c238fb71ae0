"""Interruption by Ctrl-C and SIGTERM, by an event that another thread sets, and by a timeout.

Before a run begins, a signal raises KeyboardInterrupt. In a run, the first signal stops the run at its next safe point,
the second one at once. An event or a timeout stops it at its next safe point, in any thread.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from automl_nas.errors import AutoMLNASError, ConfigurationError, RunInterrupted, StopCause
from automl_nas.evaluation.ranks import SOLO, Ranks

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_PASSED_ON = 5.0
"""Seconds within which a second signal is the same request in a process that torchrun started."""

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


def interrupted(path: Path, cause: StopCause = "signal", reason: object = "") -> RunInterrupted:
    """Return the error after an interruption: how to continue the run, or that no run was begun.

    It imports nothing that imports torch: to import torch again after its import was interrupted aborts the process.

    Args:
        path: the run directory, which may not exist yet.
        cause: what stopped the run.
        reason: included in the message; empty: nothing.
    """
    from automl_nas.run.hints import way_to_resume
    from automl_nas.run.record.directory import RunDirectory

    directory = RunDirectory(path)
    stopped = f"stopped: {reason}" if str(reason) else "stopped"
    if not directory.config.exists():
        message = f"{stopped}; the run had not begun, and nothing was recorded: start it again"
        return RunInterrupted(message, cause=cause)
    config: Mapping[str, Any] = {}
    with contextlib.suppress(AutoMLNASError):  # damaged: resuming says how
        config = directory.read_config()
    return RunInterrupted(f"{stopped}; to continue: {way_to_resume(path, config)}", cause=cause, directory=path)


class StopEvent(Protocol):
    """What asks a run to stop: `threading.Event`, `multiprocessing.Event`, or anything else with ``is_set``."""

    def is_set(self) -> bool:
        """Return whether the run must stop; called often, in the thread of the run."""


class StopFlag:
    """Whether a run must stop at its next safe point: after a signal, when an event is set, or after a timeout.

    Args:
        event: set by another thread or process; None: no event.
        timeout: seconds from now; None: no timeout.

    Raises:
        ConfigurationError: the event has no ``is_set``, or the timeout is not a positive number.

    Attributes:
        cause: what asked the run to stop; None: nothing did.
    """

    def __init__(self, event: StopEvent | None = None, timeout: float | None = None) -> None:
        if event is not None and not callable(getattr(event, "is_set", None)):
            raise ConfigurationError(
                f"must be an event such as threading.Event(), not a {type(event).__name__}", path="stop"
            )
        # In this form the condition is also False for NaN.
        if timeout is not None and (isinstance(timeout, bool) or not 0 < float(timeout) < math.inf):
            raise ConfigurationError(f"must be a positive number of seconds, not {timeout!r}", path="timeout")
        self.cause: StopCause | None = None
        self._ranks: Ranks = SOLO
        self._asked: StopCause | None = None  # this process, and perhaps not the other ranks yet
        self._asked_at = -math.inf
        self._event, self._timeout = event, timeout
        self._end = math.inf if timeout is None else time.monotonic() + timeout
        self._polled = event is not None or timeout is not None
        self._on_request: Callable[[], object] | None = None

    @property
    def requested(self) -> bool:
        """Whether the run must stop; once True, always True. Of several ranks, all see the same; see `consult`."""
        if self._polled and self._ranks.size == 1:
            self._poll()
        return self.cause is not None

    def consult(self) -> None:
        """Let all ranks of a run know whether one of them was asked to stop; without torchrun, nothing happens.

        All ranks call it at the same points, and `requested` changes there only. None returns before all have called.
        """
        if self._ranks.size == 1:
            return
        self._poll()
        asked = next((cause for cause in self._ranks.gather(self._asked) if cause is not None), None)
        if asked is not None and self.cause is None:
            self._accept(asked)

    def _poll(self) -> None:
        if self._asked is None and self._polled:
            if self._event is not None and self._event.is_set():
                self._request("event")
            elif time.monotonic() >= self._end:
                self._request("timeout")

    @property
    def reason(self) -> str:
        """Why the run stops, for messages; empty for a signal."""
        if self.cause == "timeout":
            return "a timeout is over" if self._timeout is None else f"the timeout of {self._timeout:g} s is over"
        return "the event stop= is set" if self.cause == "event" else ""

    def check(self) -> None:
        """Raise KeyboardInterrupt if the run must stop, where it has not begun."""
        if self.requested:
            raise KeyboardInterrupt

    def error(self, path: Path) -> RunInterrupted:
        """Return the error of a run that stopped; see `interrupted`."""
        return interrupted(path, self.cause or "signal", self.reason)

    @contextlib.contextmanager
    def listening(self, on_request: Callable[[], object], ranks: Ranks = SOLO) -> Iterator[None]:
        """Catch SIGINT and SIGTERM within the context, except outside the main thread, where that is impossible.

        Args:
            on_request: called when the run is first asked to stop: by a signal inside the signal handler, otherwise
                where `requested` is read.
            ranks: of the run; they stop together.
        """
        self._on_request, self._ranks = on_request, ranks
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            # torchrun passes on the signals that the terminal sends to all processes: they are one request.
            if self._asked is not None and (self._ranks.size == 1 or time.monotonic() - self._asked_at > _PASSED_ON):
                raise KeyboardInterrupt
            self._request("signal")

        before = {number: signal.signal(number, stop) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, cause: StopCause) -> None:
        if self._asked is None:
            self._asked, self._asked_at = cause, time.monotonic()
        if self._ranks.size == 1:
            self._accept(cause)

    def _accept(self, cause: StopCause) -> None:
        self.cause = cause
        if self._on_request is not None:
            self._on_request()
