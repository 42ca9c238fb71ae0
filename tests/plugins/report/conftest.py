"""Runs to report about: a complete one with a final stage, and one whose record is written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.run import Ledger, RunDirectory
from automl_nas.run.record.metrics_file import MetricsFile
from automl_nas.space import Architecture
from automl_nas.strategy import Trial

SPACE = {"name": "shufflenet_v2", "widths": [8, 16], "repeats": [1, 1], "strides": [1, 2], "stem_stride": 1}
SPACE |= {"stem_channels": 8, "last_channels": 16}


@pytest.fixture(scope="session")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on handwritten digits: 12 networks, two of them trained for an epoch."""
    path = tmp_path_factory.mktemp("runs") / "digits"
    automl_nas.search(
        out=path,
        progress="none",
        task={"name": "digits", "batch_size": 128},
        space=SPACE,
        problem={
            "objectives": {"flops": "minimize", "params": "minimize"},
            "constraints": {"flops": "<= 0.9 * largest"},
        },
        stages=[{"name": "search", "strategy": "random", "budget": {"trials": 12}}],
        final={"train": {"epochs": 2}, "data": "train", "baselines": ["random"], "export": ["safetensors"]},
        runtime={"device": "cpu", "threads": 1},
    )
    return path


def log(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Replace the logged numbers of a run directory."""
    file = MetricsFile(path / "metrics.jsonl", 0)
    for line in lines:
        file.append(line)
    file.close()


def written_run(path: Path, trials: Sequence[Trial], **changes: Any) -> Path:
    """Write a run directory with trials, which was interrupted."""
    config: dict[str, Any] = {
        "seed": 0,
        "space": {"name": "nasbench201"},
        "problem": {"objectives": {"accuracy": "maximize"}, "constraints": {"size": "<= 5"}},
        "runtime": {"device": "cpu", "precision": "float32", "memory_format": "contiguous", "threads": 1},
        "stages": [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 10}}],
        "executor": {"name": "in_process"},
        "checkpoint_seconds": 60.0,
        "final": None,
    }
    directory = RunDirectory.create(path, {**config, **changes})
    ledger = Ledger(directory.trials, writable=True)
    ledger.finished(trials)
    ledger.close()
    directory.metrics.touch()
    directory.unlock()
    return path


def trial(number: int, accuracy: float, size: float, option: str = "a", **more: Any) -> Trial:
    """Return a trial of a stage 'search' with one decision."""
    return Trial(number, Architecture({"op": option}), {"accuracy": accuracy}, {"size": size}, stage="search", **more)
