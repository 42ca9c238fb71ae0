from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from automl_nas.cli.bars import Bars
from automl_nas.cli.progress import STOPPING, Lines, Shown, shown
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial


def _trial(number: int, accuracy: float, **more: object) -> Trial:
    return Trial(number, Architecture({}), {"accuracy": accuracy}, stage="search", **more)  # type: ignore[arg-type]


class Screen:
    """Bars on a terminal of 120 columns whose clock stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.bars = Bars(Console(file=self.text, force_terminal=True, width=120, color_system=None))

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
    screen.bars.stage_started("supernet", 0, 3)
    screen.bars.logged({"loss": 2.34567, "learning_rate": 0.05, "other": 1.0}, 100)
    for now[0], done in ((30.0, 100), (40.0, 200)):  # a slow beginning, then 10 a second
        screen.bars.progress(done, 1000, "iterations")
    line = screen.line()
    assert line.startswith("1/3 supernet ")
    assert "200/1,000 iterations" in line
    assert "40 s, 1 min 20 s left" in line
    assert "loss 2.346  learning_rate 0.05" in line
    assert "other" not in line
    screen.bars.stage_finished("supernet")
    assert "left" not in screen.line()


def test_a_stage_of_unknown_length_counts(screen: Screen) -> None:
    screen.bars.stage_started("search", 1, 3)
    screen.bars.progress(1234, None, "trials")
    assert "1,234 trials" in screen.line()
    assert "left" not in screen.line()


def test_the_best_feasible_trial_is_shown_also_of_what_was_recorded_before(screen: Screen) -> None:
    recorded = [_trial(0, 0.5), _trial(1, 0.9, violations={"flops <= 1M": 0.1}), _trial(2, 0.6)]
    screen.bars.expect({"search": Problem({"accuracy": "maximize"})}, recorded)
    screen.bars.stage_started("search", 0, 1)
    assert "best: accuracy 0.6 (trial 2)" in screen.line()
    screen.bars.trial(_trial(3, 0.55))
    screen.bars.trial(_trial(4, 0.99, state=State.FAILED))
    assert "(trial 2)" in screen.line()
    screen.bars.trial(_trial(5, 0.75))
    assert "best: accuracy 0.75 (trial 5)" in screen.line()
    screen.bars.logged({"temperature": 1.0}, 3)
    assert "best:" in screen.line()


def test_bars_do_not_move_more_often_than_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    screen.bars.stage_started("search", 0, 1)
    for done in range(1, 10):
        now[0] += 0.001
        screen.bars.progress(done, 1000, "trials")
    assert "1/1,000 trials" in screen.line()
    now[0] += 1
    screen.bars.progress(500, 1000, "trials")
    assert "500/1,000" in screen.line()
    screen.bars.progress(1000, 1000, "trials")  # the end is always shown
    assert "1,000/1,000" in screen.line()


def test_being_asked_to_stop_shows_in_the_bar(screen: Screen) -> None:
    screen.bars.stage_started("search", 0, 1)
    screen.bars.stopping()
    assert STOPPING in screen.line()


def test_messages_stand_above_the_bars(screen: Screen) -> None:
    with screen.bars:
        screen.bars.stage_started("search", 0, 1)
        screen.bars.warning("trial 3: [bold]killed")  # no markup of rich's
        screen.bars.message("run directory: a/b")
    text = screen.text.getvalue()
    assert "warning: trial 3: [bold]killed" in text
    assert "run directory: a/b" in text
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_lines_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 125.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    lines = Lines()
    with lines:
        lines.stage_started("search", 1, 3)
        lines.progress(999, None, "trials")
        lines.progress(1000, None, "trials")
        lines.trial(_trial(0, 0.5))
        lines.stage_finished("search")
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
        (False, True, "xterm", Bars),
        (False, True, "dumb", Lines),
        (False, False, "xterm", Lines),
        (True, True, "xterm", Shown),
    ],
)
def test_the_way_that_suits_stderr(
    monkeypatch: pytest.MonkeyPatch, quiet: bool, terminal: bool, term: str, kind: type
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert type(shown(quiet)) is kind
