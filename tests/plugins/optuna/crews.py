"""A plugin for processes of their own: a toy space, and an evaluator that takes its time and keeps a diary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PLUGIN = """
import os, time
from automl_nas.evaluation.evaluator import Evaluator, Outcome
from automl_nas.plugin import hookimpl
from automl_nas.space.space import SearchSpace
from automl_nas.testing import ToySpace, toy_metric


def space(*, blocks: int = 4) -> ToySpace:
    return ToySpace(blocks=blocks, options=3)


class Slow(Evaluator):
    stochastic = False

    def __init__(self, space: SearchSpace, *, diary: str, seconds: float) -> None:
        self.space, self.diary, self.seconds = space, diary, seconds

    def note(self, what, number):
        with open(self.diary, "a") as file:
            file.write(f"{what} {number} {os.getpid()}\\n")

    def evaluate(self, requests):
        for request in requests:
            self.note("begin", request.number)
            time.sleep(self.seconds)
            self.note("end", request.number)
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self.space)})


@hookimpl
def register_spaces(register):
    register("slow_toy", "slow_plugin:space")


@hookimpl
def register_evaluators(register):
    register("slow", "slow_plugin:Slow")
"""


def install(folder: Path) -> dict[str, str]:
    """Write the plugin as an installed distribution; return the environment in which processes find it."""
    (folder / "slow_plugin.py").write_text(PLUGIN)
    info = folder / "slow-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[automl_nas]\nslow = slow_plugin\n")
    return {**os.environ, "PYTHONPATH": str(folder), "AUTOML_NAS_PLUGINS": "slow,optuna,evolution"}


def configuration(diary: Path, executor: Any, *, seconds: float, trials: int, ahead: int = 4) -> dict[str, Any]:
    return {
        "seed": 3,
        "space": "slow_toy",
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "checkpoint_seconds": 0.5,
        "executor": executor,
        "stages": [
            {
                "name": "search",
                "strategy": "random",
                "evaluator": {"name": "slow", "diary": str(diary), "seconds": seconds},
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
    lines = [line.split() for line in diary.read_text().splitlines()] if diary.exists() else []
    return [(int(number), int(process)) for kind, number, process in lines if kind == what]
