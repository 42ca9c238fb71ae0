"""Runs that are killed end like undisturbed ones. For more kinds and kills: ``python -m soak``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from soak.comparison import differences, record
from soak.kills import Soak


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    soak = Soak("processes", tmp_path, seed=1, kills=4)
    soak.prepare()
    counts = soak.run()
    assert counts.faults == []
    assert counts.identical == 1
    assert counts.kills.total() >= 1


def write(directory: Path, *, accuracy: float = 0.5, seconds: float = 1.0, weights: bytes = b"weights") -> Path:
    """Write what resembles a run directory."""
    (directory / "artifacts").mkdir(parents=True)
    trial = {"event": "finished", "number": 0, "metrics": {"accuracy": accuracy}, "seconds": seconds}
    lines = [{"event": "started", "number": 0}, {**trial, "time": seconds, "crc": "0"}]
    (directory / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (directory / "result.json").write_text(json.dumps({"latency_ms": seconds, "accuracy": accuracy}))
    (directory / "artifacts" / "weights").write_bytes(weights)
    return directory


def test_every_difference_but_times_is_seen(tmp_path: Path) -> None:
    masked = frozenset({"latency_ms"})
    expected = record(write(tmp_path / "first"), masked)
    assert differences(expected, record(write(tmp_path / "later", seconds=2.0), masked)) == []
    other = write(tmp_path / "other", accuracy=0.6, weights=b"others")
    names = [line.partition(":")[0] for line in differences(expected, record(other, masked))]
    assert names == ["artifacts/weights", "result.json", "trial 00000"]
    (tmp_path / "first" / "more").touch()
    assert differences(expected, record(tmp_path / "first", masked)) == ["more: only in the killed run"]
    assert len(differences(record(tmp_path / "first"), record(tmp_path / "later"))) == 2
