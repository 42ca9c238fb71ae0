from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import State
from automl_nas.plugin import (
    Event,
    MessageSent,
    NumbersLogged,
    ProgressMade,
    RunInfo,
    RunStarted,
    SessionEnded,
    StageFinished,
    StageStarted,
    StopRequested,
    TrialFinished,
)
from automl_nas.run.notifications import Notifications
from automl_nas.run.progress.bars import BarProgress
from automl_nas.run.progress.choice import progress_reporter, shown_progress
from automl_nas.run.progress.lines import LineProgress
from automl_nas.run.progress.reporter import STOPPING, ProgressReporter
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial
from automl_nas.testing import ToyEvaluator, ToySpace


def _trial(number: int, accuracy: float, **more: object) -> Trial:
    return Trial(number, Architecture({}), {"accuracy": accuracy}, stage="search", **more)  # type: ignore[arg-type]


RUN = RunInfo(Path("run"), objectives={"search": {"accuracy": "maximize"}})


def sender(reporter: ProgressReporter) -> Callable[[Event], None]:
    """Return what sends events to a reporter as a run does; an error is not isolated."""
    notifications = Notifications(RUN, strict=True)
    notifications.subscribe("the reporter", reporter.handlers)
    return notifications.send


class Screen:
    """Bars on a terminal of 120 columns."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.bars = BarProgress(Console(file=self.text, force_terminal=True, width=120, color_system=None))
        self.send = sender(self.bars)

    def line(self) -> str:
        """The last bar as it would be drawn now."""
        table = self.bars._progress.make_tasks_table(self.bars._progress.tasks)
        console = Console(file=io.StringIO(), width=120)
        with console.capture() as capture:
            console.print(table)
        return capture.get().rstrip().splitlines()[-1]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    now = iter(range(100_000))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))  # a second for each look at the clock: no throttling
    return Screen()


def test_a_bar_shows_stage_count_time_left_and_what_was_logged(screen: Screen) -> None:
    now = [0.0]
    screen.bars._progress.get_time = lambda: now[0]
    screen.send(StageStarted("supernet", 0, 3))
    screen.send(NumbersLogged({"loss": 2.34567, "learning_rate": 0.05, "other": 1.0}, 100))
    for now[0], done in ((30.0, 100), (40.0, 200)):  # a slow beginning, then 10 a second
        screen.send(ProgressMade(done, 1000, "iterations"))
    line = screen.line()
    assert line.startswith("1/3 supernet ")
    assert "200/1,000 iterations" in line
    assert "40 s, 1 min 20 s left" in line
    assert "loss 2.346  learning_rate 0.05" in line
    assert "other" not in line
    screen.send(StageFinished("supernet"))
    assert "left" not in screen.line()


def test_a_stage_of_unknown_length_counts(screen: Screen) -> None:
    screen.send(StageStarted("search", 1, 3))
    screen.send(ProgressMade(1234, None, "trials"))
    assert "1,234 trials" in screen.line()
    assert "left" not in screen.line()


def test_the_best_feasible_trial_is_shown_also_of_what_was_recorded_before(screen: Screen, tmp_path: Path) -> None:
    recorded = [_trial(0, 0.5), _trial(1, 0.9, violations={"flops <= 1M": 0.1}), _trial(2, 0.6)]
    ledger = Ledger(tmp_path / "trials.jsonl", writable=True)
    ledger.finished(recorded)
    ledger.close()
    screen.send(RunStarted(RunInfo(tmp_path, resumed=True, objectives=RUN.objectives)))
    screen.send(StageStarted("search", 0, 1))
    assert "best: accuracy 0.6 (trial 2)" in screen.line()
    screen.send(TrialFinished(RUN, _trial(3, 0.55)))
    screen.send(TrialFinished(RUN, _trial(4, 0.99, state=State.FAILED)))
    assert "(trial 2)" in screen.line()
    screen.send(TrialFinished(RUN, _trial(5, 0.75)))
    assert "best: accuracy 0.75 (trial 5)" in screen.line()
    screen.send(NumbersLogged({"temperature": 1.0}, 3))
    assert "best:" in screen.line()


def test_bars_do_not_move_more_often_than_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen.send(StageStarted("search", 0, 1))
    for done in range(1, 10):
        now[0] += 0.001
        screen.send(ProgressMade(done, 1000, "trials"))
    assert "1/1,000 trials" in screen.line()
    now[0] += 1
    screen.send(ProgressMade(500, 1000, "trials"))
    assert "500/1,000" in screen.line()
    screen.send(ProgressMade(1000, 1000, "trials"))  # the end is always shown
    assert "1,000/1,000" in screen.line()


def test_being_asked_to_stop_shows_in_the_bar(screen: Screen) -> None:
    screen.send(StageStarted("search", 0, 1))
    screen.send(StopRequested())
    assert STOPPING in screen.line()


def test_messages_stand_above_the_bars(screen: Screen) -> None:
    screen.send(RunStarted(RUN))
    screen.send(StageStarted("search", 0, 1))
    screen.bars.warning("trial 3: [bold]killed")  # no markup of rich's
    screen.send(MessageSent("run directory: a/b"))
    screen.send(SessionEnded())
    text = screen.text.getvalue()
    assert "warning: trial 3: [bold]killed" in text
    assert "run directory: a/b" in text
    assert text.endswith("\x1b[?25h")  # the cursor is back


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    lines = LineProgress()
    send = sender(lines)
    send(StageStarted("search", 1, 3))
    send(ProgressMade(999, None, "trials"))
    clock[0] = 4.0
    send(ProgressMade(1000, None, "trials"))
    send(TrialFinished(RUN, _trial(0, 0.5)))
    clock[0] = 125.0
    send(StageFinished("search"))
    lines.warning("take care")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "stage 2/3 search: started",
        "stage 2/3 search: done (1,000 trials, 2 min 5 s)",
        "warning: take care",
    ]


def test_a_line_every_few_seconds_has_count_time_left_and_the_best_trial(clock: list[float]) -> None:
    shown: list[str] = []
    send = sender(LineProgress(shown.append))
    send(RunStarted(RUN))
    send(StageStarted("search", 0, 2))
    send(NumbersLogged({"loss": 2.5}, 1))
    for second in range(0, 21):  # 10 a second from the first event on
        clock[0] = float(second)
        if second == 12:
            send(TrialFinished(RUN, _trial(120, 0.75)))
        send(ProgressMade(10 * second, 400, "trials"))
    assert shown[1:] == [
        "stage 1/2 search: 50/400 trials, 5 s, 35 s left, loss 2.5",
        "stage 1/2 search: 100/400 trials, 10 s, 30 s left, loss 2.5",
        "stage 1/2 search: 150/400 trials, 15 s, 25 s left, best: accuracy 0.75 (trial 120)",
        "stage 1/2 search: 200/400 trials, 20 s, 20 s left, best: accuracy 0.75 (trial 120)",
    ]


def test_the_speed_is_that_of_the_last_minutes(clock: list[float]) -> None:
    shown: list[str] = []
    send = sender(LineProgress(shown.append))
    send(StageStarted("search", 0, 1))
    done = 0
    for minute in range(60):  # 60 a minute for half an hour, then 6 a minute
        clock[0] = 60.0 * minute
        send(ProgressMade(done, 10_000, "trials"))
        done += 60 if minute < 30 else 6
    assert shown[-1] == f"stage 1/1 search: {done - 6:,}/10,000 trials, 59 min 0 s, 22 h 17 min left"
    assert (10_000 - (done - 6)) // 6 == 22 * 60 + 17  # minutes at 6 a minute


def test_a_long_stage_does_not_fill_the_log(clock: list[float]) -> None:
    shown: list[str] = []
    send = sender(LineProgress(shown.append))
    send(StageStarted("search", 0, 1))
    for second in range(86_400):
        clock[0] = float(second)
        send(ProgressMade(second, None, "trials"))
    assert 300 < len(shown) < 600
    assert "left" not in shown[-1]


def _search(**more: object) -> None:
    automl_nas.search(
        space=ToySpace,
        problem={"objectives": {"accuracy": "maximize"}},
        stages=[{"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 3}}],
        **more,  # type: ignore[arg-type]
    )


def test_in_python_without_logging_lines_are_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # those of pytest
    _search(out=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert any(line.endswith(" stage 1/1 search: started") for line in lines)
    assert any(" stage 1/1 search: done (3 trials" in line for line in lines)
    assert logging.getLogger("automl_nas").handlers == []
    assert logging.getLogger("automl_nas").level == logging.NOTSET
    _search(out=tmp_path / "quiet", progress="none")
    assert capsys.readouterr().err == ""


def test_in_python_with_logging_lines_are_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        _search(out=tmp_path / "run", progress="log")
    records = [record for record in caplog.records if record.name == "automl_nas.progress"]
    assert [record.getMessage().partition(" (")[0] for record in records] == [
        "stage 1/1 search: started",
        "stage 1/1 search: done",
    ]
    assert {record.levelno for record in records} == {logging.INFO}
    assert capsys.readouterr().err == ""


def test_bars_in_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _search(out=tmp_path / "run", progress="bar")
    assert "3/3 trials" in capsys.readouterr().err


def test_an_unknown_way_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unknown way of showing progress 'bars'; did you mean 'bar'"):
        _search(out=tmp_path / "run", progress="bars")
    assert not (tmp_path / "run").exists()


def test_a_visible_log_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    ours = logging.getLogger("automl_nas")
    with shown_progress("log"):
        with shown_progress("log"):
            assert len(ours.handlers) == 1
        assert len(ours.handlers) == 1
    assert ours.handlers == []


@pytest.mark.parametrize(
    ("quiet", "terminal", "term", "kind"),
    [
        (False, True, "xterm", BarProgress),
        (False, True, "dumb", LineProgress),
        (False, False, "xterm", LineProgress),
        (True, True, "xterm", ProgressReporter),
    ],
)
def test_the_way_that_suits_stderr(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert type(progress_reporter(quiet)) is kind
