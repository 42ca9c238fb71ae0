"""Curves of retraining: a line for each epoch, which does not change the training and survives an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.plugin import NumbersLogged
from automl_nas.run import Result, logged_numbers

CONFIG: dict[str, Any] = {
    "task": {"name": "digits", "batch_size": 128},
    "space": {
        "name": "shufflenet_v2",
        "widths": [8],
        "repeats": [1],
        "strides": [1],
        "stem_channels": 4,
        "last_channels": 8,
    },
    "problem": {"objectives": {"flops": "minimize"}},
    "stages": [{"name": "search", "strategy": "random", "budget": {"trials": 2}}],
    "runtime": {"device": "cpu", "threads": 1},
    "checkpoint_seconds": 0.0,
    "progress": "none",
}
FINAL = {"train": {"epochs": 3}, "data": "train", "baselines": ["random"], "iterations_per_step": 4, "export": []}


def _search(out: Path, **final: Any) -> Result:
    return automl_nas.search(**CONFIG, out=out, final={**FINAL, **final})


def _epochs(run: Path) -> list[dict[str, Any]]:
    return [line for line in logged_numbers(run / "metrics.jsonl") if isinstance(line, dict) and "epoch" in line]


def test_curves_say_what_was_measured_and_do_not_change_the_training(tmp_path: Path) -> None:
    plain, watched = _search(tmp_path / "plain"), _search(tmp_path / "watched", validate_every=1)
    assert plain.final is not None and watched.final is not None
    assert plain.final.networks == watched.final.networks
    weights = Path("artifacts") / "final" / "weights.safetensors"
    assert (plain.directory / weights).read_bytes() == (watched.directory / weights).read_bytes()
    assert _epochs(plain.directory) == []
    lines = _epochs(watched.directory)
    assert [(line["network"], line["epoch"]) for line in lines] == [(n, e) for n in (0, 1) for e in (1, 2, 3)]
    # The last point of a network is its score on the held-out images.
    for network, line in zip(watched.final.networks, lines[2::3], strict=True):
        assert {name: line[f"held_out_{name}"] for name in network.search or {}} == network.search
    # The training loss of an epoch is the mean over its iterations: 1,149 images make 8 batches of 128, in two steps.
    steps = [
        line
        for line in logged_numbers(watched.directory / "metrics.jsonl")
        if isinstance(line, dict) and "loss" in line
    ]
    first = [line["loss"] for line in steps[:2]]
    assert [line["step"] for line in steps[:2]] == [4, 8]
    assert lines[0]["train_loss"] == pytest.approx(sum(first) / 2, rel=1e-12)


def test_every_second_epoch_and_the_last_one(tmp_path: Path) -> None:
    lines = _epochs(_search(tmp_path / "run", validate_every=2, baselines=[]).directory)
    assert [line["epoch"] for line in lines] == [2, 3]


def test_without_held_out_images_only_the_training_loss(tmp_path: Path) -> None:
    lines = _epochs(_search(tmp_path / "run", validate_every=1, baselines=[], data="train+search").directory)
    assert len(lines) == 3
    assert all(not name.startswith("held_out") for line in lines for name in line)


@pytest.mark.slow
def test_an_interruption_changes_no_line(tmp_path: Path) -> None:
    whole = _search(tmp_path / "whole", validate_every=1, iterations_per_step=3)
    count = 0

    def interrupt(event: NumbersLogged) -> None:
        nonlocal count
        count += 1
        if count in (2, 9):  # within an epoch: after a part of its iterations
            raise KeyboardInterrupt

    settings = {**FINAL, "validate_every": 1, "iterations_per_step": 3}
    interruptions = 0
    while True:
        try:
            automl_nas.search(
                **CONFIG, out=tmp_path / "run", final=settings, resume=True, handlers={NumbersLogged: interrupt}
            )
            break
        except RunInterrupted:
            interruptions += 1
    assert interruptions == 2
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole.directory / "metrics.jsonl").read_bytes()


def test_a_number_of_epochs_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"final\.validate_every: must be at least 1, not 0"):
        _search(tmp_path / "run", validate_every=0)
