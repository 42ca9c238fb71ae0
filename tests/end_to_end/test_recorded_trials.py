"""Strategies that measure candidates themselves: their trials are numbered, ranked and replayed like others."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.runs import in_child, record, small_space
from end_to_end.test_faults import trials

import automl_nas
from automl_nas.errors import ConfigurationError, EvaluationError, PluginError, ReplayError, SpaceError
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial


class Learner(Strategy):
    """Learns one number a trial, which the next measurement depends on: a state that a resume must repeat."""

    seen: ClassVar[list[Trial]] = []
    history: ClassVar[list[list[int]]] = []
    kill_at: ClassVar[int | None] = None

    def __init__(self, space: SearchSpace, problem: Problem, *, count: int = 20) -> None:
        self._all = list(enumerate_all(space.decisions))
        self._count = count
        self._place, self._knowledge = 0, 0.5

    def measure(self, number: int, architecture: Architecture) -> dict[str, float]:
        del architecture
        return {"reward": self._knowledge * math.sin(number) ** 2}

    def step(self, services: Services) -> None:
        for _ in range(3):
            if self.done or services.remaining == 0:
                return
            architecture = self._all[(7 * self._place) % len(self._all)]
            trial = services.record(
                Proposal(architecture, info={"place": self._place}), self.measure(self._place, architecture)
            )
            self.seen.append(trial)
            if self._place == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self._knowledge = 0.9 * self._knowledge + trial.metrics.get("reward", 0.0)
            self._place += 1
        self.history.append([trial.number for trial in services.trials()])

    @property
    def done(self) -> bool:
        return self._place >= self._count

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        return frozenset({"reward"})

    def state_dict(self) -> dict[str, Any]:
        return {"place": self._place, "knowledge": self._knowledge}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._place, self._knowledge = state["place"], state["knowledge"]


class Forgetful(Learner):
    """Its state does not contain what it learnt."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._place = state["place"]


class Capricious(Learner):
    """Proposes other networks in another process."""

    first: ClassVar[int] = 0

    def __init__(self, space: SearchSpace, problem: Problem) -> None:
        super().__init__(space, problem)
        self._all = self._all[self.first :]


class Wrong(Learner):
    """Records what is not right, from the third trial on."""

    def __init__(self, space: SearchSpace, problem: Problem, *, how: str) -> None:
        super().__init__(space, problem)
        self._how = how

    def step(self, services: Services) -> None:
        proposal: Any = Proposal(self._all[self._place])
        metrics: Any = {"reward": 1.0}
        if self._place >= 2:
            match self._how:
                case "nan":
                    metrics = {"reward": math.nan}
                case "missing":
                    metrics = {"rewrad": 1.0}
                case "architecture":
                    proposal = self._all[self._place]
                case "space":
                    proposal = Proposal(Architecture({"nothing": 1}))
                case "metrics":
                    metrics = 1.0
        services.record(proposal, metrics)
        self._place += 1


def settings(strategy: Any = Learner, **changes: Any) -> dict[str, Any]:
    return {
        "space": small_space(),
        "problem": {"objectives": {"reward": "maximize", "params": "minimize"}, "constraints": {"params": "<= 1400"}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": strategy, **changes}],
        "checkpoint_seconds": 0.0,
    }


def run(settings: dict[str, Any], out: Path, **more: Any) -> automl_nas.Result:
    result: automl_nas.Result = automl_nas.search(settings, out=out, resume=True, **more)
    return result


def test_recorded_trials_are_trials(tmp_path: Path) -> None:
    """They have numbers, costs, violations and info, and the run's answer is the Pareto set of the feasible ones."""
    Learner.seen.clear()
    Learner.history.clear()
    result = run(settings(), tmp_path / "run")
    recorded = trials(tmp_path / "run").trials
    assert list(recorded.values()) == Learner.seen
    assert list(recorded) == list(range(20))
    assert Learner.history[0] == [0, 1, 2]
    assert all(trial.stage == "search" and trial.info == {"place": n} for n, trial in recorded.items())
    assert len({trial.seed for trial in recorded.values()}) == 20
    values = {n: (t.metrics["reward"], t.costs["params"]) for n, t in recorded.items() if t.costs["params"] <= 1400}
    assert 0 < len(values) < 20
    assert all(trial.feasible == (n in values) for n, trial in recorded.items())
    front = [
        n
        for n, (reward, params) in values.items()
        if not any((r >= reward and p < params) or (r > reward and p <= params) for r, p in values.values())
    ]
    assert sorted(candidate.number for candidate in result.pareto) == front


@pytest.mark.process
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_killed_strategy_receives_what_it_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """With a checkpoint after each step, and without any: all 20 trials are then replayed from their records."""
    more = {"checkpoint_seconds": seconds}
    run({**settings(), **more}, tmp_path / "left-alone")
    for moment in (4, 11, 19):
        monkeypatch.setattr(Learner, "kill_at", moment)
        pid = in_child(partial(run, {**settings(), **more}, tmp_path / str(moment)), quiet=True)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert len(trials(tmp_path / str(moment)).trials) == moment + 1
        monkeypatch.setattr(Learner, "kill_at", None)
        run({**settings(), **more}, tmp_path / str(moment))
        assert record(tmp_path / str(moment)) == record(tmp_path / "left-alone")


@pytest.mark.process
def test_the_record_counts_where_a_state_was_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The author is told so, once."""
    monkeypatch.setattr(Learner, "kill_at", 11)  # the checkpoint is that of trial 8: three trials are repeated
    pid = in_child(partial(run, settings(Forgetful), tmp_path / "run"), quiet=True)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    monkeypatch.setattr(Learner, "kill_at", None)
    recorded = trials(tmp_path / "run").trials
    assert len(recorded) == 12
    run(settings(Forgetful), tmp_path / "run")
    again = trials(tmp_path / "run").trials
    assert {n: again[n].metrics for n in recorded} == {n: trial.metrics for n, trial in recorded.items()}
    assert caplog.text.count("its state_dict does not contain everything that it learns") == 1


@pytest.mark.process
def test_another_proposal_under_a_recorded_number_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"checkpoint_seconds": 60.0}
    monkeypatch.setattr(Learner, "kill_at", 5)
    pid = in_child(partial(run, {**settings(Capricious), **more}, tmp_path / "run"), quiet=True)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    monkeypatch.setattr(Capricious, "first", 1)
    with pytest.raises(ReplayError, match=r"trial 0 of .* a component is not a function of its seed and state"):
        run({**settings(Capricious), **more}, tmp_path / "run")


def test_the_budget_of_trials_ends_the_stage(tmp_path: Path) -> None:
    """Also if the strategy does not look at what remains: between two steps."""
    run(settings(budget={"trials": 7}), tmp_path / "looks")
    assert len(trials(tmp_path / "looks").trials) == 7
    run(settings({"name": Wrong, "how": "nothing"}, budget={"trials": 5}), tmp_path / "does not look")
    assert len(trials(tmp_path / "does not look").trials) == 5


@pytest.mark.parametrize(
    ("how", "error"),
    [("nan", "reward is nan"), ("missing", "'reward' was not measured, only rewrad")],
)
def test_what_is_not_measured_has_failed(tmp_path: Path, how: str, error: str) -> None:
    with pytest.raises(EvaluationError, match="3 trials in a row failed"):
        run(settings({"name": Wrong, "how": how}, max_failures=3), tmp_path / "run")
    found = trials(tmp_path / "run").trials
    assert [trial.error for trial in found.values()] == ["", "", error, error, error]


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("architecture", PluginError, r"proposed Architecture.*; a candidate is Proposal\(architecture\)"),
        ("space", SpaceError, "nothing"),
        ("metrics", EvaluationError, "the metrics of trial 2 in the stage 'search' are 1.0; metrics are a mapping"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path: Path, how: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        run(settings({"name": Wrong, "how": how}), tmp_path / "run")
    assert len(trials(tmp_path / "run").trials) == 2


def test_an_objective_that_the_strategy_does_not_record_is_refused_before_the_run(tmp_path: Path) -> None:
    wrong = {**settings(), "problem": {"objectives": {"rewards": "maximize"}}}
    with pytest.raises(ConfigurationError, match=r"'rewards' is neither a metric .*did you mean 'reward'"):
        run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_recorded_and_evaluated_trials_share_their_numbers(tmp_path: Path) -> None:
    class Both(Learner):
        def step(self, services: Services) -> None:
            own = services.record(Proposal(self._all[self._place], fidelity=1.0), {"accuracy": 0.99})
            (other,) = services.evaluate([Proposal(self._all[self._place])])
            assert (own.number, other.number) == (2 * self._place, 2 * self._place + 1)
            self._place += 1

    problem = {"objectives": {"accuracy": "maximize"}}
    result = run({**settings({"name": Both, "count": 4}, evaluator=Free), "problem": problem}, tmp_path / "run")
    assert len(trials(tmp_path / "run").trials) == 8
    # The higher fidelity, of the evaluator, decides; the strategy's own optimism does not.
    assert result.best is not None
    assert result.best.number % 2 == 1
