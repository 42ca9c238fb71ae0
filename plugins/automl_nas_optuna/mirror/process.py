"""The process that mirrors a run: it reads the ledger as it grows. It slows the search down only by using a processor.

`MirrorObserver` starts it as ``python -m automl_nas_optuna.mirror.process``. It ends soon after SIGTERM, or after its
standard input is closed, which also happens when the run is killed. It writes messages for the user to its standard
output, one JSON string a line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from automl_nas.errors import UserError
from automl_nas_optuna.mirror.mirror import Mirror
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.storages import StorageError

POLL_SECONDS = 0.5
"""Seconds between two reads of the ledger."""

REFUSED = 3
"""The exit code after an error that copying later would meet again, such as a study of another run."""

MAX_RETRY_SECONDS = 60.0
"""The maximum number of seconds between two attempts to reach a storage that is down."""


def copy_rest(mirror: Mirror, patience: float, say: Callable[[str], None], stopped: Callable[[], bool]) -> int:
    """Copy the remaining trials of a run that has ended; return the number of trials not copied.

    Args:
        mirror: the mirror of the run.
        patience: the maximum number of seconds.
        say: called with each line for the user.
        stopped: whether to end after the trial that is being copied.
    """
    deadline, pause = time.monotonic() + patience, POLL_SECONDS
    while not stopped():
        try:
            if not mirror.copy():
                break
            pause = POLL_SECONDS
        except StorageError as error:
            if pause == POLL_SECONDS:
                say(f"{error}; trying again for {max(0.0, deadline - time.monotonic()):.0f} s")
            pause = min(pause * 2, MAX_RETRY_SECONDS)
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        if time.monotonic() >= deadline:
            break
    return mirror.behind


def mirror_until_end(mirror: Mirror, stopped: Callable[[], bool]) -> None:
    """Copy trials until the run ends."""
    pause, down = POLL_SECONDS, False
    while not stopped():
        try:
            busy = mirror.copy()
            if busy and down:
                _send("the Optuna storage is back; the missing trials are being copied")
                pause, down = POLL_SECONDS, False
        except StorageError as error:
            if not down:
                _send(f"{error}; the search goes on, and its trials are copied when the storage is back")
            busy, down, pause = False, True, min(pause * 2, MAX_RETRY_SECONDS)
        if _run_ended(0.0 if busy else pause):
            return


def main() -> None:
    """Mirror the run given on the command line: DIRECTORY STORAGE STUDY PATIENCE.

    A run that ends sends SIGTERM and copies the rest itself. If its process is killed, this process copies the rest.
    """
    # Ctrl-C reaches the whole process group, but the last trials that the run records must still be copied.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Not before: with this priority, importing Optuna takes many seconds on a busy machine.
    os.nice(10)
    directory, storage, study, patience = sys.argv[1:]
    mirror = Mirror(Path(directory), RunDescription.read(Path(directory)), storage, study)
    try:
        mirror_until_end(mirror, stop.is_set)
        copy_rest(mirror, float(patience), _send, stop.is_set)
    except UserError as error:
        _send(f"the run is not mirrored: {error}")
        sys.exit(REFUSED)
    finally:
        mirror.close()


def _run_ended(seconds: float) -> bool:
    """Wait at most this many seconds for the end of the run; return whether it has ended."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def _send(text: str) -> None:
    try:
        print(json.dumps(text), flush=True)
    except OSError:  # the run was killed, and nobody reads
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
