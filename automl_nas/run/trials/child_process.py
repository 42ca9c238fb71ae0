"""A child process that answers requests through a pipe: `ChildProcess`. Executors and comparisons are made of it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait
from typing import Any, final

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.process_context import process_context

READY = "ready"
"""The first message of a child process: it can answer requests."""

PATIENCE = 0.2
"""Seconds to wait for messages before looking for another reason to stop."""

MAIN_GUARD = (
    "its own message is printed above. A script that uses worker processes must be a file (not standard input), with "
    "its calls under `if __name__ == '__main__':`"
)


class ProcessDiedError(Exception):
    """A child process ended without an answer; the message says how it ended.

    Args:
        message: how it ended.
        killed: whether a signal ended it, such as that of the system when memory is short.
    """

    def __init__(self, message: str, *, killed: bool = False) -> None:
        super().__init__(message)
        self.killed = killed


@final
class ChildProcess:
    """A process that makes a handler, sends `READY`, and then answers one request after the other.

    It is started by `process_context`: it imports the main script again, which needs a main guard.

    Args:
        make_handler: called once in the child, with no arguments; returns the function from request to answer. It must
            be picklable, as requests and answers must.
        name: of the process, for lists of processes.
        environment: environment variables that libraries of the child read when they are imported. With any, the
            process is spawned.
    """

    def __init__(
        self,
        make_handler: Callable[[], Callable[[Any], object]],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn") if environment else process_context([__name__])
        ours, theirs = context.Pipe()
        self.connection: Connection = ours
        self.process = context.Process(
            target=_serve, args=(theirs, make_handler, dict(os.environ)), daemon=True, name=name
        )
        with _changed_environment(environment or {}):
            self.process.start()
        theirs.close()

    def send(self, request: object) -> None:
        """Send a request. That the process died meanwhile shows when its connection is read."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(request)

    def receive(self) -> object:
        """Return the next message: `READY`, an answer, or the exception that the handler raised.

        Raises:
            ProcessDiedError: the process ended without a message.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError, pickle.UnpicklingError):
            self.process.join(5)
            code = self.process.exitcode
            killed = code is not None and code < 0
            how = f"was killed by signal {-(code or 0)}" if killed else f"ended with exit code {code}"
            raise ProcessDiedError(how, killed=killed) from None

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


@contextlib.contextmanager
def _changed_environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _serve(
    connection: Connection, make_handler: Callable[[], Callable[[Any], object]], environment: dict[str, str]
) -> None:
    """Run in the child: answer requests until the parent is gone."""
    # Ctrl-C reaches the whole process group; the parent decides what happens to its children.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    # The server has the environment of the moment when it was started.
    os.environ.update(environment)
    # The parent has already logged what there is to say of plugins.
    logging.getLogger("automl_nas").addHandler(logging.NullHandler())
    try:
        handler = make_handler()
    except BaseException as error:
        connection.send(_portable(error))
        return
    connection.send(READY)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = handler(request)
        except BaseException as error:
            answer = _portable(error)
        connection.send(answer)


def _follow_parent() -> None:
    """End with the parent, even if it was killed while this process was busy."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _portable(error: BaseException) -> Exception:
    try:
        copy: object = pickle.loads(pickle.dumps(error))  # noqa: S301 - made on the same line
    except Exception:
        copy = None
    if not isinstance(copy, Exception):
        copy = EvaluationError(f"{type(error).__name__}: {error}")
    # Tracebacks cannot be sent to another process; --debug shows notes.
    copy.add_note("".join(traceback.format_exception(error)))
    return copy
