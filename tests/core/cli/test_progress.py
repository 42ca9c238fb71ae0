from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from automl_nas.cli.bars import BarProgress
from automl_nas.cli.progress import PlainProgress, progress_reporter
from automl_nas.cli.progress_base import STOPPING, ProgressReporter
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
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial


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


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 125.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    lines = PlainProgress()
    send = sender(lines)
    send(StageStarted("search", 1, 3))
    send(ProgressMade(999, None, "trials"))
    send(ProgressMade(1000, None, "trials"))
    send(TrialFinished(RUN, _trial(0, 0.5)))
    send(StageFinished("search"))
    lines.warning("take care")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "stage 2/3 search: started",
        "stage 2/3 search: done (1,000 trials, 2 min 5 s)",
        "warning: take care",
    ]


@pytest.mark.parametrize(
    ("quiet", "terminal", "term", "kind"),
    [
        (False, True, "xterm", BarProgress),
        (False, True, "dumb", PlainProgress),
        (False, False, "xterm", PlainProgress),
        (True, True, "xterm", ProgressReporter),
    ],
)
def test_the_way_that_suits_stderr(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert type(progress_reporter(quiet)) is kind
