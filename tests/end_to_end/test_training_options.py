"""The options of a recipe in whole runs: checked before the run, and bit-equal after an interruption."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import record, small_space

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.plugin import NumbersLogged
from automl_nas.testing.toys import ToyEvaluator, ToySpace, ToyTask

TRAIN: dict[str, Any] = {
    "epochs": 6,
    "learning_rate": 0.05,
    "schedule": "step",
    "step_epochs": [2, 4.5],
    "warmup_epochs": 1,
    "accumulate": 2,
    "average": 0.8,
    "mixup": 0.2,
    "cutmix": 1.0,
    "patience": 3,
}


def config(**final: Any) -> dict[str, Any]:
    return {
        "space": ToySpace(blocks=3),
        "task": ToyTask(train=64, search=32, test=32, batch_size=8),
        "problem": {"costs": []},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 4}},
        ],
        "final": {"train": TRAIN, "data": "train", "iterations_per_step": 3, "baselines": ["random"], **final},
        "checkpoint_seconds": 0.0,
    }


def test_a_final_stage_with_all_options_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    automl_nas.search(config(), out=tmp_path / "whole")
    steps: list[int] = []

    def interrupt(event: NumbersLogged) -> None:
        steps.append(event.step)
        signal.raise_signal(signal.SIGTERM)

    interrupted = 0
    for _ in range(100):
        try:
            automl_nas.search(config(), out=tmp_path / "parts", resume=True, handlers={NumbersLogged: interrupt})
        except RunInterrupted:
            interrupted += 1
        else:
            break
    assert interrupted > 5
    assert record(tmp_path / "parts") == record(tmp_path / "whole")


@pytest.mark.parametrize(
    ("train", "final", "path"),
    [
        ({"patience": 3}, {"data": "train+search"}, "final.train.patience"),
        ({"accumulate": 100}, {}, "final.train.accumulate"),
        ({"mixup": -1}, {}, "final.train.mixup"),
        ({"schedule": "step"}, {}, "final.train.step_epochs"),
        ({"average": 1}, {}, "final.train.average"),
    ],
)
def test_options_are_checked_before_the_run(
    train: dict[str, Any], final: dict[str, Any], path: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        automl_nas.search(config(train=train, **final), out=tmp_path / "run")
    assert caught.value.path == path
    assert not (tmp_path / "run").exists()


def test_float16_on_a_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="float16 needs a CUDA device, and the device is cpu; use bfloat16"):
        automl_nas.search({**config(), "runtime": {"device": "cpu", "precision": "float16"}}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("strategy", "train", "path"),
    [
        ("single_path", {"patience": 2}, "patience"),
        ("single_path", {"accumulate": 2}, "accumulate"),
        ("dso", {"mixup": 0.2}, "mixup"),
    ],
)
def test_a_strategy_refuses_options_that_it_cannot_carry_out(
    strategy: str, train: dict[str, Any], path: str, tmp_path: Path
) -> None:
    stages = [{"name": "supernet", "strategy": {"name": strategy, "train": {"epochs": 200, **train}}}]
    space = small_space() if strategy == "single_path" else {"name": "dso", "blocks": [1, 1], "width": 4}
    raw = {"space": space, "task": {"name": "digits", "batch_size": 128}, "stages": stages, "final": None}
    with pytest.raises(ConfigurationError) as caught:
        automl_nas.search(raw, out=tmp_path / "run")
    assert caught.value.path == f"stages[0].strategy.train.{path}"
