"""Small runs for the end-to-end tests: a supernet, a search, a final stage; seconds long, real from end to end."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from automl_nas import ModuleSpace, OneOf

CONFIG: dict[str, Any] = {
    "seed": 3,
    "task": {"name": "digits", "batch_size": 128},
    "problem": {"constraints": {"flops": "<= 0.6 * largest"}, "costs": ["flops", "params"]},
    "runtime": {"device": "cpu", "threads": 1},
    "stages": [
        {
            "name": "supernet",
            "strategy": {"name": "single_path", "train": {"epochs": 3}, "iterations_per_step": 4},
        },
        {
            "name": "search",
            "strategy": {"name": "evolution", "population": 6, "generations": 3, "top_k": 3},
            "evaluator": {"name": "inherited", "recalibration_images": 128},
            "batch": 2,
            "ahead": 4,
        },
    ],
    "final": {"train": {"epochs": 2}, "baselines": ["random"], "iterations_per_step": 4},
    "checkpoint_seconds": 0.0,
}


def options(channels: int) -> OneOf:
    """Return a choice among three small layers."""

    def conv(kernel: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    return OneOf({"conv1": conv(1), "conv3": conv(3), "skip": nn.Identity()})


def network() -> nn.Module:
    """Return a small network with four choices, and dropout, whose randomness a resume must repeat too."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        options(8),
        options(8),
        nn.MaxPool2d(2),
        options(8),
        options(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8, 10),
    )


def small_space() -> ModuleSpace:
    """Return the space of `network`."""
    return ModuleSpace(network, input_shape=(1, 8, 8))


def config(**changes: Any) -> dict[str, Any]:
    """Return `CONFIG` with its space, and some sections replaced."""
    return {**copy.deepcopy(CONFIG), "space": small_space(), **changes}


@functools.cache
def preload() -> None:
    """Import everything a run needs, so that forked processes begin with it. Takes a second, once."""
    import automl_nas.run.session
    import automl_nas.run.trials.worker_processes  # noqa: F401
    from automl_nas.run.configuration.builtin import complete_manager
    from automl_nas.run.configuration.resolver import make_plan

    plan = make_plan(config(), complete_manager().registry)
    for stage in plan.stages:
        plan.components.factory("strategies", stage.settings.strategy["name"], "")
        if stage.settings.evaluator is not None:
            plan.components.factory("evaluators", stage.settings.evaluator["name"], "")
    assert plan.final is not None
    for spec in plan.final.export:
        plan.components.factory("exporters", spec["name"], "")


def record(directory: Path) -> dict[str, Any]:
    """Return what a run left behind that must not depend on interruptions: all but times and attempts."""
    trials = {}
    for line in (directory / "trials.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry.pop("event") == "finished":
            for name in ("seconds", "time", "crc"):
                del entry[name]
            assert entry["number"] not in trials, "a trial was recorded twice"
            trials[entry["number"]] = entry
    files = [p for folder in ("artifacts", "export") for p in sorted((directory / folder).rglob("*")) if p.is_file()]
    return {
        "trials": [trials[number] for number in sorted(trials)],
        "metrics": (directory / "metrics.jsonl").read_text(),
        "result": json.loads((directory / "result.json").read_text()),
        "files": {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }


def in_child(work: Callable[[], object], *, quiet: bool = False) -> int:
    """Run a function in a forked process and return its process id; it ends with 0, or with 1 and a traceback."""
    preload()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()  # so that worker processes can be found and killed with it
        work()
        code = 0
    except BaseException:
        if not quiet:
            traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(code)


def progress(directory: Path) -> int:
    """Return how far a run is: lines of metrics and finished trials."""
    lines = 0
    for name, mark in (("metrics.jsonl", b"\n"), ("trials.jsonl", b'"finished"')):
        path = directory / name
        lines += path.read_bytes().count(mark) if path.exists() else 0
    return lines


def kill_at(work: Callable[[], object], directory: Path, moments: Sequence[int], seed: int) -> int:
    """Start the work again and again, killing it with SIGKILL when its progress reaches each moment; then let it end.

    A random pause of up to 50 ms goes between the moment and the kill, so that it hits anything: a training step, a
    line being written, a checkpoint.

    Returns:
        How many times it was killed.
    """
    rng = random.Random(seed)
    for kills, moment in enumerate((*moments, None)):
        pid = in_child(work)
        while moment is None or progress(directory) < moment:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert status == 0, f"the run failed with status {status}"
                return kills
            time.sleep(0.003)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    raise AssertionError("unreachable")


def changed(base: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a deep copy of a configuration with one value replaced; ``path`` as in ``stages.0.batch``."""
    result: Any = copy.deepcopy({key: item for key, item in base.items() if key != "space"})
    here = result
    *parents, last = path.split(".")
    for part in parents:
        here = here[int(part)] if part.isdigit() else here[part]
    here[int(last) if last.isdigit() else last] = value
    return {**result, **({"space": base["space"]} if "space" in base else {})}
