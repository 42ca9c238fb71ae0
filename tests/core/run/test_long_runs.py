"""Runs that may take long are tried before they begin."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.runs import config, record

from automl_nas import search
from automl_nas.errors import RunFailedError, RunInterrupted
from automl_nas.evaluation import Delivery, Exporter, full_batches
from automl_nas.plugin.events import MessageSent, TrialFinished
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.stages import TrainingLimit
from automl_nas.run.estimate import beginning, long_runs
from automl_nas.run.estimate.long_runs import may_take_longer
from automl_nas.run.estimate.short_run import Shortening
from automl_nas.space import Architecture
from automl_nas.strategy import AskTellStrategy, Proposal, Trial

TRIED = "every stage, check and export works"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure two iterations of each stage."""
    shortening = Shortening(steps=1, seconds=None, iterations_per_step=2, training=TrainingLimit(2))
    monkeypatch.setattr(beginning, "MEASURING", shortening)


def test_the_guess_counts_iterations_and_batches_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config()
    settings["final"] = {"train": {"epochs": 2}, "baselines": ["random"], "seeds": 3}
    plan = make_plan(settings, complete_manager().registry)
    assert plan.task is not None
    train, whole = full_batches(plan.task, "train"), full_batches(plan.task, "train+search")
    scored = math.ceil(plan.task.size("search") / plan.task.size("train") * train)
    # 3 epochs of the supernet; 18 trials, whose batches have no backward pass; two networks, each three times.
    iterations = 3 * train + 18 * scored / 3 + 2 * 3 * 2 * whole
    monkeypatch.setattr(long_runs, "_step_seconds", lambda *_: 0.5)
    assert may_take_longer(plan, 2 * 0.5 * iterations - 0.1)
    assert not may_take_longer(plan, 2 * 0.5 * iterations + 0.1)

    # A slow step, because of other programs, is not enough, nor are several: all of them must be slow.
    for fast, steps in ((0, 1), (1, 2), (5, 6), (6, 6)):
        times = iter([*[9.0] * fast, *[0.5] * 10])
        seen: list[float] = []

        def step(*_: object, times: Iterator[float] = times, seen: list[float] = seen) -> float:
            seen.append(next(times))
            return seen[-1]

        monkeypatch.setattr(long_runs, "_step_seconds", step)
        monkeypatch.setattr(long_runs, "_ENOUGH_SECONDS", 100.0)
        assert may_take_longer(plan, 2 * 0.6 * iterations) == (fast == 6)
        assert len(seen) == steps

    # A slow machine or a large network: two steps, since the first one includes what happens once.
    monkeypatch.setattr(long_runs, "_step_seconds", lambda *_: seen.append(30.0) or 30.0)
    monkeypatch.setattr(long_runs, "_ENOUGH_SECONDS", 20.0)
    seen.clear()
    assert may_take_longer(plan, 2 * 0.6 * iterations) and len(seen) == 2


def test_other_programs_do_not_make_a_run_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that waits for a processor spends time as one that sleeps: its own processor does nothing."""
    settings = config(runtime={"device": "cpu", "threads": 1})
    plan = make_plan(settings, complete_manager().registry)
    assert plan.task is not None
    loss, threads = plan.task.loss, list[int]()

    def slow(*arguments: Any) -> Any:
        threads.append(torch.get_num_threads())
        time.sleep(0.5)
        return loss(*arguments)

    monkeypatch.setattr(plan.task, "loss", slow)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        # A step on 128 images of 8 x 8 pixels takes some ten milliseconds of a processor.
        iterations = sum(long_runs._iterations(plan, stage, plan.task) for stage in plan.stages)
        iterations += long_runs._final_iterations(plan)
        assert not may_take_longer(plan, 2 * 0.4 * iterations)
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {1}, "the steps are timed with the threads of the run"


def _messages(out: Path, **settings: Any) -> list[str]:
    texts: list[str] = []
    search(config(**settings), out=out, progress="none", handlers={MessageSent: lambda event: texts.append(event.text)})
    return texts


def test_a_long_run_is_tried_and_has_the_same_result(tmp_path: Path) -> None:
    assert any(text.startswith(TRIED) for text in _messages(tmp_path / "tried", smoke_above_minutes=0))
    assert not any(text.startswith(TRIED) for text in _messages(tmp_path / "plain", smoke_above_minutes=None))
    assert record(tmp_path / "tried") == record(tmp_path / "plain")


def test_a_resumed_run_is_not_tried_again(tmp_path: Path) -> None:
    def interrupt(_: TrialFinished) -> None:
        signal.raise_signal(signal.SIGINT)

    settings = config(smoke_above_minutes=0)
    with pytest.raises(RunInterrupted):
        search(settings, out=tmp_path / "run", progress="none", handlers={TrialFinished: interrupt})
    texts: list[str] = []
    handlers = {MessageSent: lambda event: texts.append(event.text)}
    search(settings, out=tmp_path / "run", resume=True, progress="none", handlers=handlers)
    assert not any(text.startswith(TRIED) for text in texts)


def test_what_would_fail_late_fails_before_the_run(tmp_path: Path) -> None:
    # The exporter works in the rehearsal, which a run may leave out, and fails for the delivered network.
    settings = config(smoke_above_minutes=0)
    settings["final"] |= {"rehearse": False, "export": [Failing()]}
    with pytest.raises(RunFailedError, match=r"cannot be exported: .*no such device"):
        search(settings, out=tmp_path / "run", progress="none")
    assert not (tmp_path / "run").exists()


def test_a_strategy_object_is_not_changed_by_the_trial_run(tmp_path: Path) -> None:
    settings = config(smoke_above_minutes=0, final=None)
    for name, limit in (("tried", 0), ("plain", None)):
        strategy = Counting()
        settings["stages"] = [
            {"name": "search", "strategy": strategy, "evaluator": {"name": "train", "train": {"epochs": 1}}}
        ]
        search({**settings, "smoke_above_minutes": limit}, out=tmp_path / name, progress="none")
        assert strategy.asked == 3
    assert record(tmp_path / "tried") == record(tmp_path / "plain")


class Failing(Exporter):
    """A format whose device is missing."""

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        raise RunFailedError("no such device")


class Counting(AskTellStrategy):
    """Proposes three architectures."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, n: int) -> list[Proposal]:
        if self.asked == 3:
            return []
        self.asked += 1
        options = ["conv1", "conv3", "skip"]
        return [Proposal(Architecture({str(place): options[self.asked - 1] for place in (2, 3, 5, 6)}))]

    def tell(self, trials: Sequence[Trial]) -> None:
        pass

    def search_state(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self.asked = state["asked"]
