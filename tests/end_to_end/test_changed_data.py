"""A run is continued with the data that it began with, or with the user's consent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from end_to_end.test_resume import stop_at
from numpy.typing import NDArray

import automl_nas
from automl_nas.cli import cli
from automl_nas.errors import RunDirectoryError, RunInterrupted, UserError
from automl_nas.run.record.yaml import dump_yaml

SETTINGS: dict[str, Any] = {
    "space": {"name": "nasbench201", "cells": 1, "channels": 2},
    "problem": {"costs": ["params"]},
    "runtime": {"device": "cpu", "threads": 1},
    "stages": [
        {
            "name": "search",
            "strategy": "random",
            "evaluator": {"name": "train", "train": {"epochs": 1}},
            "budget": {"trials": 4},
        }
    ],
    "final": None,
}


def write(path: Path, *, inverted: bool = False) -> Path:
    """Write 80 small images of 2 classes."""
    rng = np.random.default_rng(0)
    images: NDArray[np.uint8] = rng.integers(0, 255, (80, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(80) % 2
    pixels = 255 - images if inverted else images
    np.savez(path, train_images=pixels, train_labels=labels, test_images=pixels[:10], test_labels=labels[:10])
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data.npz")


@pytest.fixture
def stopped(tmp_path: Path, data: Path) -> Path:
    """Return the directory of a run that was stopped after its second trial."""
    with pytest.raises(RunInterrupted):
        automl_nas.search(SETTINGS, task=task(data), out=tmp_path / "run", handlers=stop_at(1))
    return tmp_path / "run"


def task(data: Path) -> dict[str, Any]:
    return {"name": "npz", "path": str(data), "batch_size": 16}


def test_changed_data_are_refused_unless_the_user_knows(stopped: Path, data: Path) -> None:
    before = json.loads((stopped / "identity.json").read_text())["task"]
    write(data, inverted=True)
    for _ in range(2):  # a refusal changes nothing
        with pytest.raises(RunDirectoryError, match=r"the data of the task changed since .* --changed-data"):
            automl_nas.resume(stopped)
        with pytest.raises(RunDirectoryError, match="the data of the task changed"):
            automl_nas.search(SETTINGS, task=task(data), out=stopped, resume=True)
    automl_nas.resume(stopped, changed_data=True)
    identity = json.loads((stopped / "identity.json").read_text())
    assert identity["earlier_data"] == [{"task": before, "final_task": before}]
    assert identity["task"] != before
    automl_nas.resume(stopped)  # the consent holds for these data


def test_data_that_moved_are_linked(
    stopped: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error has the command, with which the run goes on."""
    moved = data.rename(tmp_path / "a new place.npz")
    with pytest.raises(RunDirectoryError, match=r"was begun with .*data\.npz, which does not exist") as caught:
        automl_nas.resume(stopped)
    command = str(caught.value).partition("place: ")[2]
    assert command == f"ln -s NEW_PLACE {data}"
    data.symlink_to(moved)
    automl_nas.resume(stopped)
    assert not caplog.messages, "checkpoints count, too"
    moved = moved.rename(tmp_path / "elsewhere.npz")
    data.unlink()
    with pytest.raises(RunDirectoryError, match="ln -s NEW_PLACE"):
        automl_nas.retrain(stopped, out=tmp_path / "again", final={"train": {"epochs": 1}})
    data.symlink_to(moved)
    with pytest.raises(UserError, match=r"other\.npz does not exist"):  # a path of the user's own
        automl_nas.retrain(stopped, out=tmp_path / "again", final={"task": task(tmp_path / "other.npz")})
    automl_nas.retrain(stopped, out=tmp_path / "again", final={"train": {"epochs": 1}})


def test_the_same_content_is_the_same_data(stopped: Path, data: Path) -> None:
    os.utime(data, ns=(1, 1))
    write(data)
    automl_nas.resume(stopped)


@pytest.mark.parametrize("command", ["resume", "run"])
def test_the_command_line_takes_the_same_consent(stopped: Path, data: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "config.yaml").write_text(dump_yaml({**SETTINGS, "task": task(data)}))
    write(data, inverted=True)
    arguments = {
        "resume": ["resume", str(stopped), "-q"],
        "run": ["run", str(tmp_path / "config.yaml"), "--out", str(stopped), "--resume", "-q"],
    }[command]
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 2
    assert "--changed-data" in refused.output
    assert CliRunner().invoke(cli, [*arguments, "--changed-data"]).exit_code == 0
