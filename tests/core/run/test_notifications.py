"""Events of a run: what observers and handlers receive, and what they cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.plugin import (
    Event,
    Observer,
    ProgressMade,
    ResultInfo,
    RunFinished,
    RunInfo,
    RunStarted,
    SessionEnded,
    StageFinished,
    StageStarted,
    StepInfo,
    TrialFinished,
)
from automl_nas.run.record.ledger import Ledger, finished_after
from automl_nas.run.session import Session
from automl_nas.space import SearchSpace
from automl_nas.strategy.trial import Trial
from automl_nas.testing import ObserverContract, ToyEvaluator, ToySpace

SPACE = ToySpace(blocks=3, options=3)


class Diary(Observer):
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def check(self, run: RunInfo) -> None:
        self.calls.append(("check", run.directory.exists()))

    def search_started(self, run: RunInfo) -> None:
        self.calls.append(("started", run.resumed, {k: dict(v) for k, v in run.objectives.items()}))

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        self.calls.append(("step", step.steps))

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        self.calls.append(("trial", trial.number))

    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        self.calls.append(("finished", result.trials))

    def close(self) -> None:
        self.calls.append(("closed",))


class Raising(Observer):
    def __init__(self) -> None:
        self.calls = 0

    def search_started(self, run: RunInfo) -> None:
        """Nothing yet."""

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        self.calls += 1
        raise RuntimeError("the disk of the observer is full")


class Refusing(Observer):
    def check(self, run: RunInfo) -> None:
        raise ConfigurationError("cannot be reached", path="storage")

    def search_started(self, run: RunInfo) -> None:
        raise AssertionError("it has refused")


class TestDiary(ObserverContract):
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        return Diary()

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:
        assert isinstance(observer, Diary)
        numbers = [call[1] for call in observer.calls if call[0] == "trial"]
        assert numbers == sorted(numbers)
        assert numbers[-1] == max(trials)
        assert [call[0] for call in observer.calls][-2:] == ["finished", "closed"]


def configuration(*observers: Observer) -> dict[str, Any]:
    return {
        "space": SPACE,
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "observers": list(observers),
        "stages": [
            {"name": "search", "strategy": "random", "evaluator": ToyEvaluator(SPACE), "budget": {"trials": 3}},
        ],
    }


def test_an_observer_receives_what_hooks_receive(tmp_path: Path) -> None:
    diary = Diary()
    Session.start(configuration(diary), tmp_path / "run").run()
    assert diary.calls[:2] == [("check", False), ("started", False, {"search": {"accuracy": "maximize"}})]
    assert [call[1] for call in diary.calls if call[0] == "trial"] == [0, 1, 2]
    assert [call[1] for call in diary.calls if call[0] == "step"][-1] >= 3
    assert diary.calls[-2:] == [("finished", 3), ("closed",)]


def test_one_that_raises_is_left_out_and_the_others_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raising, diary = Raising(), Diary()
    Session.start(configuration(raising, diary), tmp_path / "run").run()
    assert raising.calls == 1
    assert [call[1] for call in diary.calls if call[0] == "trial"] == [0, 1, 2]
    assert "observers[0] (Raising): trial_finished: RuntimeError: the disk of the observer is full" in caplog.text


def test_handlers_receive_the_events_of_a_run_in_order(tmp_path: Path) -> None:
    events: list[Event] = []
    Session.start(configuration(), tmp_path / "run", handlers={Event: events.append}).run()
    kinds = [type(event) for event in events]
    assert kinds[:2] == [RunStarted, StageStarted]
    assert kinds[-3:] == [StageFinished, RunFinished, SessionEnded]
    progress = [(event.done, event.total) for event in events if isinstance(event, ProgressMade)]
    assert progress == sorted(progress)
    assert progress[-1] == (3, 3)
    trials = [event.trial for event in events if isinstance(event, TrialFinished)]
    assert [trial.number for trial in trials] == [0, 1, 2]
    with pytest.raises(TypeError, match="frozen"):
        trials[0].metrics["accuracy"] = 1.0  # type: ignore[index]


def test_a_handler_that_raises_is_logged_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[Event] = []

    def fail(event: Event) -> None:
        calls.append(event)
        raise SystemExit(1)

    Session.start(configuration(), tmp_path / "run", handlers={StageStarted: fail, StageFinished: fail}).run()
    assert len(calls) == 1
    assert "handlers: stage_started: SystemExit: 1" in caplog.text


def test_a_keyboard_interrupt_of_a_handler_ends_the_run(tmp_path: Path) -> None:
    events: list[Event] = []

    def interrupt(event: Event) -> None:
        events.append(event)
        if isinstance(event, TrialFinished):
            raise KeyboardInterrupt

    with pytest.raises(RunInterrupted):
        Session.start(configuration(), tmp_path / "run", handlers={Event: interrupt}).run()
    assert isinstance(events[-1], SessionEnded)


def test_one_that_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        Session.start(configuration(Refusing()), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_observers_do_not_change_what_is_found(tmp_path: Path) -> None:
    plain = Session.start(configuration(), tmp_path / "plain")
    watched = Session.start(configuration(Diary()), tmp_path / "watched")
    assert plain.plan.digest == watched.plan.digest
    plain.run(), watched.run()
    architectures = [
        [trial.architecture for trial in Ledger(run / "trials.jsonl", writable=False).trials.values()]
        for run in (tmp_path / "plain", tmp_path / "watched")
    ]
    assert architectures[0] == architectures[1]


def test_who_follows_a_run_reads_whole_lines_once(tmp_path: Path) -> None:
    Session.start(configuration(), tmp_path / "run").run()
    text = (tmp_path / "run" / "trials.jsonl").read_bytes()
    path = tmp_path / "growing.jsonl"
    assert finished_after(path, 0) == ([], 0)
    seen, offset = [], 0
    for end in range(0, len(text) + 1, 7):
        path.write_bytes(text[:end])
        trials, offset = finished_after(path, offset)
        seen += [trial.number for trial in trials]
    path.write_bytes(text)
    trials, offset = finished_after(path, offset)
    assert [*seen, *(trial.number for trial in trials)] == [0, 1, 2]
    assert offset == len(text)
