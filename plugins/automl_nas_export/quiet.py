"""Keeping what tracers print away from the terminal."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any

LIBRARIES = ("torch", "onnx", "onnxscript", "onnx_ir", "onnxruntime")
"""The packages that trace, convert and run exported programs."""


@contextmanager
def quiet_tracing() -> Iterator[None]:
    """Hide what this thread prints, the log of `LIBRARIES`, and Python warnings.

    A tracer that fails prints the program it has traced so far, and logs each attempt; the exception says what matters.
    ``AUTOML_NAS_DEBUG=1`` and ``TORCH_LOGS`` show everything.
    """
    if os.environ.get("AUTOML_NAS_DEBUG") or "TORCH_LOGS" in os.environ:
        yield
        return
    thread = threading.get_ident()

    def shown(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.name.partition(".")[0] not in LIBRARIES

    with ExitStack() as stack:
        for handler in _handlers():
            handler.addFilter(shown)
            stack.callback(handler.removeFilter, shown)
        stack.enter_context(redirect_stdout(_OtherThreads(sys.stdout, thread)))
        stack.enter_context(redirect_stderr(_OtherThreads(sys.stderr, thread)))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


class _OtherThreads:
    """A stream that drops what one thread writes. Others, such as that of a progress bar, write as before."""

    def __init__(self, stream: Any, thread: int) -> None:
        self._stream, self._thread = stream, thread

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _handlers() -> set[logging.Handler]:
    """Return the handlers that may show a record of `LIBRARIES`: torch gives its loggers handlers of their own."""
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    own = [logger for logger in loggers if logger.name.partition(".")[0] in LIBRARIES]
    handlers = {handler for logger in (logging.root, *own) for handler in logger.handlers}
    return handlers | ({logging.lastResort} if logging.lastResort else set())
