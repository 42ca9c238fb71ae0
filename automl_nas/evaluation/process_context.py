"""How child processes are started: forked from a server that holds no threads, where the platform can."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from typing import Any

# The process that started the server: a fork of it cannot use the server (multiprocessing.forkserver waits for it).
_owner: int | None = None
_preload = ["torch"]


def process_context(preload: Sequence[str] = ()) -> Any:
    """Return a `multiprocessing` context whose processes start safely beside threads.

    Processes are forked from a server that has imported torch and ``preload`` once, not in every child. Where there is
    no fork server, and in a process that was itself forked after the server was started, they are spawned.

    Args:
        preload: modules that the children need. The server imports those of all calls until it is started, which is
            when the first child is started.
    """
    global _owner
    if "forkserver" not in multiprocessing.get_all_start_methods() or _owner not in (None, os.getpid()):
        return multiprocessing.get_context("spawn")
    _owner = os.getpid()
    context = multiprocessing.get_context("forkserver")
    _preload.extend(name for name in preload if name not in _preload)
    context.set_forkserver_preload(_preload)
    return context
