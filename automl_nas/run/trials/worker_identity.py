"""Who evaluated a trial: `describe_worker` and `worker_name`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

from automl_nas.run.record.environment import environment


def describe_worker(device: str) -> dict[str, Any]:
    """Return what is recorded of this process with each trial that it evaluates for a run on another machine.

    Args:
        device: of the evaluations, such as ``cuda:0``.

    Returns:
        ``host``, ``process`` (its identifier), ``device``, and ``versions``: of Python, the processor, and the
        distributions on which results depend.
    """
    versions = {name: version for name, version in environment().items() if version is not None}
    return {"host": socket.gethostname(), "process": os.getpid(), "device": device, "versions": versions}


def worker_name(worker: Mapping[str, Any]) -> str:
    """Return how messages call a worker: ``process 71 on gpu3 (cuda:0)``.

    Args:
        worker: the return value of `describe_worker`.
    """
    return f"process {worker['process']} on {worker['host']} ({worker['device']})"
