"""The process that mirrors a run: it reads the ledger as it grows. It slows the search down only by using a processor.

`MirrorObserver` starts it as ``python -m automl_nas_optuna.mirror.process``. It ends soon after its standard input is
closed, which also happens when the run is killed. It writes messages for the user to its standard output, one JSON
string a line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path

from automl_nas.errors import UserError
from automl_nas_optuna.mirror.mirror import Mirror
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.storages import StorageError

POLL_SECONDS = 0.5
"""Seconds between two reads of the ledger."""

MAX_RETRY_SECONDS = 60.0
"""The maximum number of seconds between two attempts to reach a storage that is down."""


def mirror_until_end(mirror: Mirror, patience: float) -> int:
    """Copy trials until the run ends, and the remaining ones after that; return the number of trials not copied.

    Args:
        mirror: the mirror of the run.
        patience: the maximum number of seconds to continue after the run has ended.
    """
    pause, down = POLL_SECONDS, False
    deadline: float | None = None
    while True:
        try:
            busy = mirror.copy()
            if busy and down:
                _send("the Optuna storage is back; the missing trials are being copied")
                pause, down = POLL_SECONDS, False
        except StorageError as error:
            if not down:
                _send(f"{error}; the search goes on, and its trials are copied when the storage is back")
            busy, down, pause = False, True, min(pause * 2, MAX_RETRY_SECONDS)
        now = time.monotonic()
        if deadline is None:
            if _run_ended(0.0 if busy else pause):
                deadline, pause = time.monotonic() + patience, POLL_SECONDS
        elif now >= deadline or not (busy or down):
            return mirror.behind
        elif down:
            time.sleep(min(pause, max(0.0, deadline - now)))


def main() -> None:
    """Mirror the run given on the command line: DIRECTORY STORAGE STUDY PATIENCE."""
    # Ctrl-C reaches the whole process group, but the last trials that the run records must still be copied.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    directory, storage, study, patience = sys.argv[1:]
    mirror = Mirror(Path(directory), RunDescription.read(Path(directory)), storage, study)
    try:
        if left := mirror_until_end(mirror, float(patience)):
            _send(f"{left} trials were not copied in time; to copy them: automl-nas mirror {directory} STORAGE")
    except UserError as error:
        _send(f"the run is not mirrored: {error}")
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
