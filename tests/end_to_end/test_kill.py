"""A run that is killed again and again ends bit-identical to one that was left alone."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import changed, config, in_child, kill_at, progress, record

import automl_nas

# For a long test: AUTOML_NAS_KILL_ROUNDS=50 python -m pytest tests/end_to_end/test_kill.py
ROUNDS = int(os.environ.get("AUTOML_NAS_KILL_ROUNDS", "2"))
KILLS = 8


def run(settings: dict[str, Any], out: Path) -> None:
    automl_nas.search(settings, out=out, resume=True)


def finish(settings: dict[str, Any], out: Path) -> None:
    """Run without a disturbance, in a process of its own."""
    pid = in_child(partial(run, settings, out))
    assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(config(), out)
    return record(out), progress(out)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_at_random_moments(undisturbed: tuple[dict[str, Any], int], tmp_path: Path, seed: int) -> None:
    """Moments are spread over all of the run: supernet training, search and the last stage."""
    expected, length = undisturbed
    moments = sorted(random.Random(seed).sample(range(1, length), KILLS))
    kills = kill_at(partial(run, config(), tmp_path / "run"), tmp_path / "run", moments, seed)
    assert kills > KILLS // 2, "the run must have been killed on the way"
    assert record(tmp_path / "run") == expected


@pytest.mark.process
def test_same_configuration_same_run(undisturbed: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    finish(config(), tmp_path / "run")
    assert record(tmp_path / "run") == undisturbed[0]


@pytest.mark.process
def test_another_seed_is_another_run(undisturbed: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    finish(config(seed=4), tmp_path / "run")
    assert record(tmp_path / "run")["trials"] != undisturbed[0]["trials"]


@pytest.mark.slow
@pytest.mark.process
def test_rare_checkpoints_change_nothing(undisturbed: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    """Without checkpoints inside stages everything since the last stage is replayed from the ledger."""
    expected, length = undisturbed
    settings = config(checkpoint_seconds=3600.0)
    kills = kill_at(
        partial(run, settings, tmp_path / "run"), tmp_path / "run", [length // 3, length // 2, length - 3], seed=7
    )
    assert kills == 3
    assert record(tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.process
def test_kills_while_the_batch_is_one(tmp_path: Path) -> None:
    settings = changed(changed(config(), "stages.1.batch", 1), "stages.1.ahead", 1)
    finish(settings, tmp_path / "left-alone")
    length = progress(tmp_path / "left-alone")
    kill_at(partial(run, settings, tmp_path / "killed"), tmp_path / "killed", [length // 2, length // 2 + 3], seed=11)
    assert record(tmp_path / "killed") == record(tmp_path / "left-alone")
