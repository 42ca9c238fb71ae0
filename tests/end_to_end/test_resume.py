"""Runs that are resumed after something else than a clean kill, or in other circumstances than they began in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import end_to_end.failing_candidates
import pytest
import torch
from end_to_end.failing_candidates import Chatty, Free, Misbehaving, Shared, Slow, Unplugged
from end_to_end.runs import in_child, record
from end_to_end.test_faults import run, search_only, trials

import automl_nas
from automl_nas.errors import ConfigurationError, EvaluationError, RunInterrupted
from automl_nas.evaluation.evaluator import Request
from automl_nas.plugin import Handlers, TrialFinished
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.trial import Proposal


def stop_at(number: int) -> Handlers:
    """Return handlers that ask the run to stop when a trial is recorded."""

    def trial_finished(event: TrialFinished) -> None:
        if event.trial.number == number:
            signal.raise_signal(signal.SIGTERM)

    return {TrialFinished: trial_finished}


def test_a_run_that_failures_ended_goes_on_when_the_cause_is_mended(tmp_path: Path) -> None:
    cable = tmp_path / "unplugged"
    cable.touch()
    settings = search_only({"name": Unplugged, "unplugged": str(cable)}, max_failures=4)
    with pytest.raises(EvaluationError, match=r"4 trials in a row failed.*mend the cause and resume"):
        run(settings, tmp_path / "run")
    # Nothing is mended: one more failure is enough.
    with pytest.raises(EvaluationError, match="5 trials in a row failed"):
        run(settings, tmp_path / "run")
    cable.unlink()
    run(settings, tmp_path / "run")
    found = trials(tmp_path / "run").trials
    assert [number for number, trial in found.items() if trial.state == "failed"] == [5, 6, 7, 8, 9]
    assert len(found) == 20


def test_reports_that_are_no_numbers_are_recorded_as_such(tmp_path: Path) -> None:
    """A candidate may report a NaN on its way and still end with a number."""
    run(search_only({"name": Misbehaving, "how": "report", "numbers": [3]}), tmp_path / "run")
    found = trials(tmp_path / "run").trials
    assert found[3].state == "complete"
    assert found[3].info == {"intermediate": [[1, None]]}


def test_info_that_cannot_be_recorded_is_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"the info of trial 0 in the stage 'search' .*\{1, 2\} is not JSON"):
        run(search_only(Chatty), tmp_path / "run")


@pytest.mark.process
@pytest.mark.parametrize("where", ["here", "in the worker"])
def test_a_suspect_that_no_worker_process_can_try_is_evaluated_like_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Classes of a notebook cannot be sent, or not be found where they are sent: such a run must be resumable too."""

    class Local(Free):
        def value(self, request: Request) -> float:
            if request.number == 4 and not (tmp_path / "lived").exists():
                (tmp_path / "lived").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().value(request)

    if where == "in the worker":
        Local.__module__, Local.__qualname__ = end_to_end.failing_candidates.__name__, "Local"
        monkeypatch.setattr(end_to_end.failing_candidates, "Local", Local, raising=False)
    settings = search_only(Local)
    pid = in_child(partial(run, settings, tmp_path / "run"), quiet=True)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    run(settings, tmp_path / "run")
    assert "an earlier process died while it evaluated trial 4; no worker process can be made" in caplog.text
    run(search_only(Free), tmp_path / "left-alone")
    assert record(tmp_path / "run")["trials"] == record(tmp_path / "left-alone")["trials"]


@pytest.mark.process
def test_a_damaged_line_of_a_trial_that_was_not_handed_out_yet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded out of order, waiting for its turn when the checkpoint was written: the checkpoint builds on it."""
    settings = {**search_only({"name": Shared, "how": "raise", "numbers": []}, ahead=6), "checkpoint_seconds": 0.0}
    run(settings, tmp_path / "left-alone")
    out = tmp_path / "run"
    with pytest.raises(RunInterrupted):
        run(settings, out, handlers=stop_at(9))
    last = max(trials(out).trials)
    assert last > 9
    path = out / "trials.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    (place,) = (n for n, line in enumerate(lines) if b'"finished","number":%d,' % last in line)
    lines[place] = lines[place].replace(b'"complete"', b'"comqlete"')
    path.write_bytes(b"".join(lines))
    run(settings, out)
    assert f"line {place + 1} (trial {last}): damaged" in caplog.text
    values = [[t.metrics for _, t in sorted(trials(d).trials.items())] for d in (out, tmp_path / "left-alone")]
    assert values[0] == values[1]


def test_what_the_runtime_left_to_the_machine_is_not_asked_again(tmp_path: Path) -> None:
    """Resumed where torch would take another number of threads, or where another precision happens to be faster."""
    settings = {
        **search_only(Slow),
        "task": "digits",
        "final": None,
        "runtime": {"device": "cpu", "precision": "auto", "memory_format": "auto"},
    }
    threads = torch.get_num_threads()
    try:
        with pytest.raises(RunInterrupted):
            run(settings, tmp_path / "run", handlers=stop_at(3))
        recorded = (tmp_path / "run" / "config.yaml").read_text()
        torch.set_num_threads(threads + 1)
        result = run(settings, tmp_path / "run")
    finally:
        torch.set_num_threads(threads)
    assert result.plan.config["runtime"]["threads"] == threads
    assert (tmp_path / "run" / "config.yaml").read_text() == recorded


@pytest.mark.process
def test_a_resumed_search_takes_the_executor_it_is_given(tmp_path: Path) -> None:
    with pytest.raises(RunInterrupted):
        run(search_only(Slow), tmp_path / "run", handlers=stop_at(3))
    result = automl_nas.search(search_only(Slow), out=tmp_path / "run", resume=True, executor="processes")
    assert result.plan.config["executor"] == {"name": "processes", "workers": 1, "rehearse": True}
    run(search_only(Slow), tmp_path / "left-alone")
    assert record(tmp_path / "run")["trials"] == record(tmp_path / "left-alone")["trials"]


class Backwards(Strategy):
    """Asks for its results last one first, and remembers what it was shown."""

    shown: ClassVar[list[list[int]]] = []

    def __init__(self, space: SearchSpace) -> None:
        self._all = list(enumerate_all(space.decisions))[:8]
        self._place = 0

    def step(self, services: Services) -> None:
        numbers = services.submit([Proposal(a) for a in self._all[self._place : self._place + 4]])
        services.results(numbers[::-1])
        self._place += 4
        self.shown.append([trial.number for trial in services.trials()])

    @property
    def done(self) -> bool:
        return self._place >= len(self._all)

    def state_dict(self) -> dict[str, Any]:
        return {"place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._place = state["place"]


def test_trials_are_seen_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    Backwards.shown.clear()
    run(search_only(Free, strategy=Backwards, budget={}), tmp_path / "run")
    assert Backwards.shown == [list(range(4)), list(range(8))]


@pytest.mark.process
@pytest.mark.parametrize("number", [0, 2])
def test_a_signal_to_the_whole_group_is_held_against_no_candidate(tmp_path: Path, number: int) -> None:
    """As a cluster ends a job: workers die of it at once, while they start or while they evaluate."""
    settings = search_only({"name": Misbehaving, "how": "hang", "numbers": [number]}, timeout=120.0)
    out = tmp_path / "run"
    stopped = tmp_path / "stopped"

    def work() -> None:
        try:
            run({**settings, "executor": "processes"}, out)
        except RunInterrupted:
            stopped.touch()

    pid = in_child(work)
    while not (out / "trials.jsonl").exists() or len(trials(out).attempts if number else [0]) < 1:
        time.sleep(0.01)
    os.killpg(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == 0
    assert stopped.exists()
    assert [a for a in trials(out).attempts.values() if a.started or a.crashed] == []


def test_candidates_that_nothing_measures_are_not_compared(tmp_path: Path) -> None:
    """A forgotten evaluator: without it a search for accuracy would be a search for nothing."""
    settings = {**search_only(None), "task": "digits", "final": None}
    with pytest.raises(ConfigurationError, match=r"stages\[0\].evaluator: .* compared by 'accuracy'.* give the stage"):
        run(settings, tmp_path / "run")
    run({**settings, "problem": {"objectives": {"params": "minimize"}}}, tmp_path / "costs")
    assert len(trials(tmp_path / "costs").trials) == 20


@pytest.mark.slow
@pytest.mark.process
def test_a_budget_of_steps_leaves_nothing_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for ahead is recorded, whatever the executor; so checkpoints of the next stage can build on it."""
    settings = search_only(Slow, ahead=4, budget={"steps": 3})
    settings["stages"].append({**settings["stages"][0], "name": "second"})
    settings["checkpoint_seconds"] = 0.0
    run(settings, tmp_path / "here")
    # 4 at the beginning, one more with each of the 3 steps, in both stages.
    assert list(trials(tmp_path / "here").trials) == list(range(14))
    run({**settings, "executor": {"name": "processes", "workers": 2}}, tmp_path / "workers")
    assert record(tmp_path / "workers") == record(tmp_path / "here")
    with pytest.raises(RunInterrupted):
        run(settings, tmp_path / "stopped", handlers=stop_at(10))
    result = run(settings, tmp_path / "stopped")
    assert record(tmp_path / "stopped") == record(tmp_path / "here")
    assert [stage["trials"] for stage in result.data["stages"]] == [7, 7]
    assert "checkpoint" not in caplog.text


class Drawing(Backwards):
    """Draws from the global generator when it is made, as the initialisation of a network does."""

    drawn: ClassVar[list[float]] = []

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.drawn.append(torch.rand(()).item())


def test_what_a_constructor_draws_depends_on_the_run_alone(tmp_path: Path) -> None:
    """On the seed and the stage, that is: not on the stages before, nor on how often it was resumed."""
    Drawing.drawn.clear()
    settings = search_only(Free, strategy=Drawing, budget={})
    run(settings, tmp_path / "alone")
    before = {**search_only(Free)["stages"][0], "name": "before"}
    run({**settings, "stages": [before, *settings["stages"]]}, tmp_path / "after")
    run({**settings, "seed": 1}, tmp_path / "other")
    assert Drawing.drawn[0] == Drawing.drawn[1] != Drawing.drawn[2]
