"""Which way of showing progress a run uses."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Literal, TypeAlias, get_args

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.run.progress.lines import LineProgress
from automl_nas.run.progress.reporter import ProgressReporter

Progress: TypeAlias = Literal["auto", "bar", "log", "none"]
"""``bar``: bars on stderr. ``log``: lines through `logging`. ``none``: nothing. ``auto``: ``bar`` if stderr is a
terminal, else ``log``."""

_OURS = logging.getLogger("automl_nas")
_LOG = logging.getLogger("automl_nas.progress")


def progress_reporter(quiet: bool) -> ProgressReporter:
    """Return the reporter that a command uses: bars if stderr is a terminal, else lines on stderr.

    Args:
        quiet: show only warnings.
    """
    if quiet:
        return ProgressReporter()
    return _bars() if _is_terminal() else LineProgress()


@contextlib.contextmanager
def shown_progress(progress: Progress) -> Iterator[ProgressReporter]:
    """Return the reporter of a run in Python.

    The lines of ``log`` have the level INFO and the logger ``automl_nas.progress``. If the program has not set up
    logging, they and the messages of the run are written on stderr while the run works.

    Raises:
        ConfigurationError: there is no such way of showing progress.
    """
    ways = get_args(Progress)
    if progress not in ways:
        raise ConfigurationError(
            f"unknown way of showing progress {progress!r}{did_you_mean(str(progress), ways)}", path="progress"
        )
    if progress == "auto":
        progress = "bar" if _is_terminal() else "log"
    if progress == "none":
        yield ProgressReporter()
    elif progress == "bar":
        yield _bars()
    else:
        with _visible_log:
            yield LineProgress(lambda text: _LOG.info("%s", text), messages=False)


class _VisibleLog:
    """Within its context, the log of this framework is written on stderr, unless the program set up logging.

    Several runs in threads share one handler.
    """

    def __init__(self) -> None:
        self._lock, self._entered = threading.Lock(), 0
        self._handler: logging.Handler | None = None
        self._level = logging.NOTSET

    def __enter__(self) -> None:
        with self._lock:
            self._entered += 1
            if self._entered == 1 and not _OURS.hasHandlers():
                self._handler = logging.StreamHandler(sys.stderr)
                self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
                self._level = _OURS.level
                _OURS.addHandler(self._handler)
                _OURS.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered and self._handler is not None:
                _OURS.removeHandler(self._handler)
                _OURS.setLevel(self._level)
                self._handler = None


_visible_log = _VisibleLog()


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _bars() -> ProgressReporter:
    from automl_nas.run.progress.bars import BarProgress

    return BarProgress()
