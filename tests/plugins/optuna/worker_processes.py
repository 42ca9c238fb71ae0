"""Configurations of runs with slow evaluations, and ``automl-nas`` in separate processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automl_nas.testing.event_log import read_event_log
from automl_nas.testing.toy_plugin import installed_toys


def install(folder: Path) -> dict[str, str]:
    """Let other processes load the toy plugin, Optuna and evolution; return their environment."""
    return installed_toys(folder, "optuna", "evolution")


def configuration(event_log: Path, executor: Any, *, seconds: float, trials: int, ahead: int = 4) -> dict[str, Any]:
    """Return the configuration of a random search whose evaluations take this many seconds."""
    return {
        "seed": 3,
        "space": "toy",
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "checkpoint_seconds": 0.5,
        "executor": executor,
        "stages": [
            {
                "name": "search",
                "strategy": "random",
                "evaluator": {"name": "event_log", "file": str(event_log), "seconds": seconds},
                "budget": {"trials": trials},
                "ahead": ahead,
            }
        ],
    }


def start(environment: dict[str, str], *arguments: str, prelude: str = "") -> subprocess.Popen[str]:
    """Start ``automl-nas`` with these arguments, in a process that first executes ``prelude``."""
    code = f"{prelude}\nfrom automl_nas.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait until a condition holds in other processes, which may be slow on a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition does not hold"
        time.sleep(0.02)


def entries(event_log: Path, what: str) -> list[tuple[int, int]]:
    """Return (number of the trial, process) of all evaluations that have begun or ended.

    Args:
        event_log: the file that the evaluators write.
        what: ``begin`` or ``end``.
    """
    return [(event.number, event.process) for event in read_event_log(event_log) if event.what == what]
