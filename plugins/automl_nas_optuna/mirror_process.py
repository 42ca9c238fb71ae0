"""The process that mirrors a run: it reads the run's record as it grows, and costs the search nothing but a processor.

It is started by `MirrorObserver` as ``python -m automl_nas_optuna.mirror_process``, ends soon after its standard input
does (so with the run, however that ends), and says what is wrong in lines of JSON on its standard output.
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
from automl_nas_optuna.mirror import Mirror
from automl_nas_optuna.run_description import RunDescription
from automl_nas_optuna.storages import StorageError

LOOK = 0.5
"""Seconds between two looks at the record."""

SLOWEST = 60.0
"""Seconds between two tries to reach a storage that is down, in the end."""


def follow(mirror: Mirror, patience: float) -> int:
    """Copy trials until the run is over, and then what is left within some seconds; return how many are left.

    Args:
        mirror: of the run.
        patience: seconds.
    """
    pause, down = LOOK, False
    deadline: float | None = None
    while True:
        try:
            busy = mirror.copy()
            if busy and down:
                _say("the Optuna storage is back; what it missed is being copied")
                pause, down = LOOK, False
        except StorageError as error:
            if not down:
                _say(f"{error}; the search goes on, and its trials are copied when the storage is back")
            busy, down, pause = False, True, min(pause * 2, SLOWEST)
        now = time.monotonic()
        if deadline is None:
            if _over(0.0 if busy else pause):
                deadline, pause = time.monotonic() + patience, LOOK
        elif now >= deadline or not (busy or down):
            return mirror.behind
        elif down:
            time.sleep(min(pause, max(0.0, deadline - now)))


def main() -> None:
    """Follow the run that the command line names: DIRECTORY STORAGE STUDY PATIENCE."""
    # Ctrl-C reaches the whole process group, and what the run records last is still to be copied.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(10)
    directory, storage, study, patience = sys.argv[1:]
    mirror = Mirror(Path(directory), RunDescription.read(Path(directory)), storage, study)
    try:
        if left := follow(mirror, float(patience)):
            _say(f"{left} trials were not copied in time; to catch up: automl-nas mirror {directory} STORAGE")
    except UserError as error:
        _say(f"the run is not mirrored: {error}")
    finally:
        mirror.close()


def _over(seconds: float) -> bool:
    """Wait for the run to end, for so long at most."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


def _say(text: str) -> None:
    try:
        print(json.dumps(text), flush=True)
    except OSError:  # the run was killed, and nobody listens
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    main()
