"""The observers ``csv`` and ``tensorboard``: what they write is what the record of the run has, also after a resume."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from plugins.report.conftest import log

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import Observer, RunInfo
from automl_nas.run import logged_numbers
from automl_nas.space import SearchSpace
from automl_nas.strategy import Trial
from automl_nas.testing import ObserverContract
from automl_nas_report.csv_observer import CSVObserver
from automl_nas_report.tensorboard_observer import TensorBoardObserver


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestCSV(ObserverContract):
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        return CSVObserver(every=1e-6)  # at every step

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:
        rows = _rows(folder / "watched" / "csv" / "trials.csv")
        assert [int(row["number"]) for row in rows] == sorted(trials)
        for row in rows:
            trial = trials[int(row["number"])]
            assert row["state"] == trial.state.value
            assert row["stage"] == trial.stage
            assert row["error"] == trial.error
            for name, value in trial.metrics.items():
                assert row[f"metrics.{name}"] == (repr(value) if math.isfinite(value) else "")
            for name, choice in trial.architecture.items():
                assert row[f"architecture.{name}"] == str(choice)
        lines = [line for line in logged_numbers(folder / "watched" / "metrics.jsonl") if isinstance(line, dict)]
        assert len(_rows(folder / "watched" / "csv" / "metrics.csv")) == len(lines)


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").touch()
    for kind in (CSVObserver, TensorBoardObserver):
        with pytest.raises(ConfigurationError, match=r"is not an empty folder|needs the package tensorboard"):
            kind(folder=str(tmp_path)).check(RunInfo(tmp_path / "run"))
    CSVObserver(folder=str(tmp_path / "new")).check(RunInfo(tmp_path / "run"))
    with pytest.raises(ConfigurationError, match="must be positive"):
        CSVObserver(every=0)


def test_logged_numbers_have_the_columns_of_all_lines(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").touch()
    log(tmp_path, [{"stage": "a", "step": 1, "loss": 0.5}, {"stage": "b", "step": 2, "rate": None, "loss": 2}])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('nonsense\n{"stage":"b"')
    observer = CSVObserver()
    observer.search_started(RunInfo(tmp_path))
    observer.close()
    assert _rows(tmp_path / "csv" / "metrics.csv") == [
        {"stage": "a", "step": "1", "loss": "0.5", "rate": ""},
        {"stage": "b", "step": "2", "loss": "2", "rate": ""},
    ]


def test_without_the_package_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r'pip install "automl-nas\[tensorboard\]"'):
        TensorBoardObserver().check(RunInfo(tmp_path))


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: Any = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


class TestTensorBoard(ObserverContract):
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")

    def make(self, space: SearchSpace, folder: Path) -> Observer:
        return TensorBoardObserver(every=1e-6)

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:
        tags = _scalars(folder / "watched" / "tensorboard")
        expected = {
            t.number: t.metrics["accuracy"]
            for t in trials.values()
            if t.stage == "first" and math.isfinite(t.metrics.get("accuracy", math.nan))
        }
        points = tags["first/trials/accuracy"]
        assert len(points) == len(expected)  # each of them once, also after a resume
        assert dict(points) == pytest.approx(expected, rel=1e-6)


def test_lines_of_a_run_that_fell_back_are_written_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the optional package tensorboard is not installed")
    (tmp_path / "trials.jsonl").touch()
    lines = [{"stage": "final", "step": step, "network": 0, "loss": step + 0.5} for step in range(4)]
    log(tmp_path, lines)
    observer = TensorBoardObserver()
    observer.search_started(RunInfo(tmp_path))
    observer.follow(tmp_path)
    log(tmp_path, lines[:2])
    observer.follow(tmp_path)
    log(tmp_path, lines[:3])
    observer.close()
    assert _scalars(tmp_path / "tensorboard") == {"final/network 0/loss": [(0, 0.5), (1, 1.5), (2, 2.5)]}
