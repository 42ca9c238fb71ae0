"""Runs that another thread stops, runs with a timeout, and runs of several threads."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from end_to_end.runs import record

import automl_nas
from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.plugin import Event, Handlers, NumbersLogged, RunStarted, StopRequested, TrialFinished
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace, ToyTask

OBJECTS: dict[str, Any] = {
    "space": ToySpace(blocks=3),
    "task": ToyTask(train=64, search=32, test=32, batch_size=8),
    "evaluator": ToyEvaluator,
    "cost_model": ToyCost,
}


def config(trials: int = 4, **changes: Any) -> dict[str, Any]:
    return {
        "space": OBJECTS["space"],
        "task": OBJECTS["task"],
        "problem": {"costs": {"toy_cost": ToyCost}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": trials}}],
        "final": {"train": {"epochs": 2}, "iterations_per_step": 3, "export": []},
        "checkpoint_seconds": 1e9,
        **changes,
    }


def in_thread(work: Callable[[], Any]) -> Any:
    """Return what a function returns or raise what it raises, in a thread other than the main one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result(timeout=120)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> automl_nas.Result:
    return automl_nas.search(config(), out=tmp_path_factory.mktemp("runs") / "undisturbed")


def at(kinds: type[Event] | tuple[type[Event], ...], work: Callable[[], object]) -> Handlers:
    """Return handlers that do something at each event of some kinds."""
    return {kind: lambda event: work() for kind in (kinds if isinstance(kinds, tuple) else (kinds,))}


def test_an_event_stops_a_run_of_another_thread_wherever_it_is(undisturbed: automl_nas.Result, tmp_path: Path) -> None:
    """Each session does one step; the checkpoint is written although its interval is not over."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    stopped = 0
    requests: list[StopRequested] = []
    while True:
        stop = threading.Event()
        handlers: Handlers = {
            TrialFinished: lambda _, stop=stop: stop.set(),
            NumbersLogged: lambda _, stop=stop: stop.set(),
        }
        handlers = {**handlers, StopRequested: requests.append}

        def work(stop: threading.Event = stop, handlers: Handlers = handlers) -> automl_nas.Result:
            return automl_nas.search(config(), out=tmp_path / "run", resume=True, stop=stop, handlers=handlers)

        try:
            in_thread(work)
            break
        except RunInterrupted as error:
            stopped += 1
            assert (error.cause, error.directory) == ("event", tmp_path / "run")
            assert str(error).startswith("stopped: the event stop= is set; to continue: automl_nas.search(")
            assert (pickle.loads(pickle.dumps(error)).cause, len(requests)) == ("event", stopped)  # noqa: S301
    # The last trial and the last training end the run before the next look: 4 trials and 6 steps of training.
    assert stopped >= 8
    assert record(tmp_path / "run") == record(undisturbed.directory)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_timeout_stops_a_run(undisturbed: automl_nas.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def trial_finished(event: TrialFinished) -> None:
        nonlocal now
        now += 10.0

    monkeypatch.setattr("automl_nas.run.interruption.time", SimpleNamespace(monotonic=lambda: now))
    with pytest.raises(RunInterrupted, match="stopped: the timeout of 25 s is over; to continue:") as caught:
        automl_nas.search(config(), out=tmp_path / "run", timeout=25, handlers={TrialFinished: trial_finished})
    assert (caught.value.cause, now) == ("timeout", 30.0)
    automl_nas.search(config(), out=tmp_path / "run", timeout=25, resume=True)
    assert record(tmp_path / "run") == record(undisturbed.directory)


def test_a_run_that_is_stopped_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(RunInterrupted, match="the run had not begun, and nothing was recorded") as caught:
        automl_nas.search(config(), out=tmp_path / "run", stop=stop)
    assert caught.value.directory is None
    with pytest.raises(RunInterrupted, match="the timeout of 1e-09 s is over; the run had not begun"):
        automl_nas.search(config(), out=tmp_path / "run", timeout=1e-9)
    assert not (tmp_path / "run").exists()


def test_resume_retrain_and_extend_can_be_stopped(undisturbed: automl_nas.Result, tmp_path: Path) -> None:
    started, stop = undisturbed.directory, threading.Event()
    longer = {"search": {"budget": {"trials": 6}}}
    calls: list[Callable[..., automl_nas.Result]] = [
        lambda out, **more: automl_nas.retrain(started, out=out, final={"seeds": 2}, **OBJECTS, **more),
        lambda out, **more: automl_nas.extend(started, out=out, stages=longer, **OBJECTS, **more),
    ]
    for number, call in enumerate(calls):
        stop.clear()
        out = tmp_path / str(number)
        with pytest.raises(RunInterrupted) as caught:
            call(out, stop=stop, handlers=at(NumbersLogged, stop.set))
        assert (caught.value.cause, caught.value.directory) == ("event", out)
        assert not (out / "result.json").exists()
        with pytest.raises(RunInterrupted):
            call(tmp_path / "never", stop=stop)
        assert not (tmp_path / "never").exists()
    raw: dict[str, Any] = {
        "space": {"name": "mlp", "input_shape": [4], "num_classes": 2},
        "problem": {"objectives": {"params": "minimize"}},
        "stages": [{"name": "search", "strategy": "random", "budget": {"trials": 3}}],
    }
    whole = automl_nas.search(raw, out=tmp_path / "whole")
    stop.clear()
    with pytest.raises(RunInterrupted):
        automl_nas.search(raw, out=tmp_path / "part", stop=stop, handlers=at(TrialFinished, stop.set))
    with pytest.raises(RunInterrupted, match=f"to continue: automl-nas resume {tmp_path / 'part'}"):
        automl_nas.resume(tmp_path / "part", stop=stop)
    assert automl_nas.resume(tmp_path / "part", timeout=1e6).data == whole.data


def test_runs_of_several_threads_take_turns_and_do_not_mix_their_random_numbers(
    undisturbed: automl_nas.Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "automl_nas")
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(automl_nas.search, config(), out=tmp_path / str(n), progress="none") for n in range(3)]
        results = [run.result(timeout=120) for run in runs]
    assert all(record(result.directory) == record(undisturbed.directory) for result in results)
    assert "waiting: another thread of this process works on a run, and one works at a time" in caplog.messages


def test_a_run_that_waits_for_its_turn_can_be_stopped(tmp_path: Path) -> None:
    working, stop, waiting = threading.Event(), threading.Event(), threading.Event()

    def hold(event: RunStarted) -> None:
        working.set()
        assert waiting.wait(60)

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(automl_nas.search, config(), out=tmp_path / "first", handlers={RunStarted: hold})
        assert working.wait(60)
        second = threads.submit(automl_nas.search, config(), out=tmp_path / "second", stop=stop)
        stop.set()
        with pytest.raises(RunInterrupted, match="had not begun"):
            second.result(timeout=60)
        waiting.set()
        first.result(timeout=60)
    assert not (tmp_path / "second").exists()


def test_a_run_within_a_run_does_not_wait(undisturbed: automl_nas.Result, tmp_path: Path) -> None:
    inner: list[automl_nas.Result] = []

    def search(event: RunStarted) -> None:
        inner.append(automl_nas.search(config(), out=tmp_path / "inner"))

    automl_nas.search(config(), out=tmp_path / "outer", handlers={RunStarted: search})
    assert len(inner) == 1
    for name in ("inner", "outer"):
        assert record(tmp_path / name) == record(undisturbed.directory)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("stop", True), ("timeout", 0), ("timeout", -1.0), ("timeout", float("nan")), ("timeout", True)],
)
def test_events_and_timeouts_are_checked_first(setting: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be") as caught:
        automl_nas.search(config(), out=tmp_path / "run", **{setting: value})
    assert caught.value.path == setting
    assert not (tmp_path / "run").exists()


def test_the_event_may_be_one_of_multiprocessing(tmp_path: Path) -> None:
    stop = multiprocessing.get_context("spawn").Event()
    with pytest.raises(RunInterrupted):
        automl_nas.search(config(), out=tmp_path / "run", stop=stop, handlers=at(TrialFinished, stop.set))


def test_a_run_inside_a_running_event_loop_and_beside_one(undisturbed: automl_nas.Result, tmp_path: Path) -> None:
    """A cell of a notebook is executed inside the event loop of its kernel."""

    async def cell() -> str:
        result = automl_nas.search(config(), out=tmp_path / "inside")
        return result._repr_html_()

    assert "run directory" in asyncio.run(cell())

    async def beside() -> int:
        stop, turns = threading.Event(), 0
        # The run waits after a trial, so that it cannot end before the event loop had its turns.
        waiting = at(TrialFinished, lambda: stop.wait(60))
        run = asyncio.create_task(
            asyncio.to_thread(automl_nas.search, config(), out=tmp_path / "beside", stop=stop, handlers=waiting)
        )
        while turns < 10:
            await asyncio.sleep(0.01)
            turns += (tmp_path / "beside" / "trials.jsonl").exists()
        stop.set()
        with pytest.raises(RunInterrupted):
            await run
        return turns

    assert asyncio.run(beside()) == 10
    assert record(tmp_path / "inside") == record(undisturbed.directory)
