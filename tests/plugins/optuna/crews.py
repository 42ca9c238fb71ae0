"""Runs whose evaluations take their time, and ``automl-nas`` in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from automl_nas.testing.event_log import read_event_log
from automl_nas.testing.toy_plugin import installed_toys


def install(folder: Path) -> dict[str, str]:
    """Let other processes find the toys beside random search and Optuna; return their environment."""
    return installed_toys(folder, "optuna", "evolution")


def configuration(diary: Path, executor: Any, *, seconds: float, trials: int, ahead: int = 4) -> dict[str, Any]:
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
                "evaluator": {"name": "event_log", "file": str(diary), "seconds": seconds},
                "budget": {"trials": trials},
                "ahead": ahead,
            }
        ],
    }


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start ``automl-nas``."""
    code = "from automl_nas.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def entries(diary: Path, what: str) -> list[tuple[int, int]]:
    """Return (trial, process) of what was begun or ended."""
    return [(note.number, note.process) for note in read_event_log(diary) if note.what == what]
