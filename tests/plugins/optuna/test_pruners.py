"""Optuna's pruners in runs: against studies of Optuna, in any number of processes, and resumed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from plugins.optuna.worker_processes import start

from automl_nas.errors import ConfigurationError, RunInterrupted
from automl_nas.evaluation import Earlier, EarlierTrial, Evaluator, Outcome, Request, State
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.strategy import Problem, Trial
from automl_nas.testing import PrunerContract, ToyEvaluator, ToySpace, installed_toys, toy_plugin
from automl_nas.testing.toy_curves import ToyCurves, toy_curve
from automl_nas_optuna.pruning.base import OptunaPruner
from automl_nas_optuna.pruning.pruners import (
    AnyPruner,
    Hyperband,
    Median,
    Patient,
    Percentile,
    SuccessiveHalving,
    Threshold,
    Wilcoxon,
)

STEPS, TRIALS = 9, 40

PRUNERS: dict[str, tuple[dict[str, Any], Callable[[], optuna.pruners.BasePruner]]] = {
    "median": ({}, lambda: optuna.pruners.MedianPruner()),
    "percentile": (
        {"percentile": 25.0, "n_startup_trials": 3, "n_warmup_steps": 2, "interval_steps": 2, "n_min_trials": 4},
        lambda: optuna.pruners.PercentilePruner(25.0, 3, 2, 2, n_min_trials=4),
    ),
    "successive_halving": (
        {"min_resource": 2, "reduction_factor": 2},
        lambda: optuna.pruners.SuccessiveHalvingPruner(2, 2),
    ),
    "hyperband": ({"max_resource": STEPS}, lambda: optuna.pruners.HyperbandPruner(1, STEPS)),
    "threshold": ({"lower": 0.4, "n_warmup_steps": 3}, lambda: optuna.pruners.ThresholdPruner(0.4, n_warmup_steps=3)),
    "patient": (
        {"patience": 1, "pruner": {"name": "median", "n_startup_trials": 2}},
        lambda: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(2), 1),
    ),
    "wilcoxon": ({"p_threshold": 0.2}, lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.2)),
}
"""Name -> settings in a configuration, and the same pruner of Optuna."""


class TestMedian(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Median(problem, n_startup_trials=2)


class TestPercentile(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Percentile(problem, percentile=30.0, n_startup_trials=2)


class TestSuccessiveHalving(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return SuccessiveHalving(problem, reduction_factor=2)


class TestHyperband(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Hyperband(problem)


class TestThreshold(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Threshold(problem, lower=0.3, n_warmup_steps=2)


class TestPatient(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Patient(problem, patience=1, pruner=Median(problem, n_startup_trials=1))


class TestWilcoxon(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return Wilcoxon(problem)


class TestAnyPruner(PrunerContract):
    def make(self, problem: Problem) -> OptunaPruner:
        return AnyPruner(problem, pruner="optuna.pruners:MedianPruner", settings={"n_startup_trials": 2})


def configuration(pruner: Any, space: Any = None, evaluator: Any = None, **stage: Any) -> dict[str, Any]:
    """Return the configuration of a search, by default with names only."""
    return {
        "space": space or "toy",
        "problem": {"objectives": {"accuracy": "maximize"}, "costs": []},
        "stages": [
            {
                "name": "search",
                "strategy": "random",
                "evaluator": evaluator or {"name": "curves", "steps": STEPS},
                "pruner": pruner,
                "budget": {"trials": TRIALS},
                **stage,
            }
        ],
    }


SPACE = ToySpace()


def run(folder: Path, pruner: Any, evaluator: Evaluator | None = None, **stage: Any) -> list[Trial]:
    """Return the trials of a run in this process."""
    raw = configuration(pruner, SPACE, evaluator or ToyCurves(SPACE, steps=STEPS), **stage)
    session = Session.start(raw, folder)
    session.run()
    return recorded(folder)


def recorded(folder: Path) -> list[Trial]:
    return [trial for _, trial in sorted(Ledger(folder / "trials.jsonl", writable=False).trials.items())]


def facts(trials: Iterable[Trial]) -> list[Any]:
    """Return what a resumed run, and one with other executors, must repeat."""
    return [
        (t.number, t.architecture, t.state, t.metrics, t.seed, t.fidelity, json.dumps(dict(t.info))) for t in trials
    ]


def reports(trial: Trial) -> list[Any]:
    values: Any = trial.info["intermediate"]
    return list(values)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", PRUNERS)
def test_a_run_stops_the_trials_that_a_study_of_optuna_stops(name: str, tmp_path: Path) -> None:
    """One outstanding trial, so that each is compared with all before it, as in `Study.optimize`.

    The name of the study has an influence on the brackets of Hyperband.
    """
    settings, make = PRUNERS[name]
    trials = run(tmp_path / "run", {"name": name, **settings})
    study = optuna.create_study(direction="maximize", pruner=make(), study_name="automl_nas")
    for trial in trials:
        asked, expected = study.ask(), []
        for step, value in enumerate(toy_curve(trial.architecture, SPACE, trial.seed, STEPS), start=1):
            expected.append([step, value])
            asked.report(value, step)
            if asked.should_prune():
                study.tell(asked, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(asked, value)
        theirs = study.trials[-1].state is optuna.trial.TrialState.PRUNED
        assert reports(trial) == expected, trial
        assert trial.state is (State.PRUNED if theirs else State.COMPLETE)
        assert trial.metrics == {"accuracy": expected[-1][1]}
    stopped = sum(trial.state is State.PRUNED for trial in trials)
    assert 0 < stopped < TRIALS


def test_a_trial_is_compared_with_those_that_the_strategy_had_received(tmp_path: Path) -> None:
    """With 6 outstanding trials, told 2 at a time, trial n is compared with the first ones of the stage only."""
    trials = run(tmp_path / "run", "median", batch=2, ahead=6)
    median = Median(Problem({"accuracy": "maximize"}))
    past = [
        EarlierTrial(
            t.number,
            t.state,
            t.metrics["accuracy"] if t.state is State.COMPLETE else None,
            tuple((step, value) for step, value in reports(t)),
        )
        for t in trials
    ]
    for trial in trials:
        received = max(0, (trial.number - 6) // 2 * 2 + 2)
        judge = median.judge(Earlier(trial.number, tuple(past[:received])))
        decisions = [judge.prunes(step, value) for step, value in reports(trial)]
        assert decisions == [False] * (len(decisions) - 1) + [trial.state is State.PRUNED]
    assert any(trial.state is State.PRUNED for trial in trials)


class Interrupted(Evaluator):
    """Ends the run, without a last checkpoint, while trial 13 is evaluated; others are outstanding."""

    stochastic = False
    begun: ClassVar[list[int]] = []

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            self.begun.append(request.number)
            if request.number == 13 and self.begun.count(13) == 1:
                raise KeyboardInterrupt
            yield from ToyCurves(SPACE, steps=STEPS).evaluate([request])


@pytest.mark.process
@pytest.mark.parametrize("name", ["successive_halving", "hyperband"])
def test_a_resumed_run_makes_the_same_decisions(name: str, tmp_path: Path) -> None:
    spec = {"name": name, **PRUNERS[name][0]}
    whole = facts(run(tmp_path / "whole", spec, batch=2, ahead=6))
    Interrupted.begun.clear()
    raw = {**configuration(spec, SPACE, Interrupted(), batch=2, ahead=6), "checkpoint_seconds": 0.0}
    with pytest.raises(RunInterrupted):
        Session.start(raw, tmp_path / "resumed").run()
    # Also without the newest checkpoints, so that trials of the ledger are proposed again.
    for keep, folder in ((True, tmp_path / "resumed"), (False, tmp_path / "older")):
        if not keep:
            shutil.copytree(tmp_path / "resumed", folder)
    for folder in ("resumed", "older"):
        if folder == "older":
            newest = max((tmp_path / folder / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime)
            newest.unlink() if newest.is_file() else shutil.rmtree(newest)
        Session.resume(tmp_path / folder, raw=raw).run()
        assert facts(recorded(tmp_path / folder)) == whole


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("executor", ["processes", "optuna"])
def test_workers_make_the_same_decisions(executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.optuna.queue_runs import forget_plugins

    spec = {"name": "hyperband", "max_resource": STEPS}
    environment = installed_toys(tmp_path, "optuna", "evolution")
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", environment["AUTOML_NAS_PLUGINS"])
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    monkeypatch.syspath_prepend(str(tmp_path))
    forget_plugins()
    try:
        raw = configuration(spec, batch=1, ahead=4)
        Session.start(raw, tmp_path / "alone").run()
        storage = str(tmp_path / "queue.journal")
        chosen = {
            "processes": {"name": "processes", "workers": 2},
            "optuna": {"name": "optuna", "storage": storage, "poll": 0.02},
        }[executor]
        workers = [start(environment, "worker", storage, "--idle", "60") for _ in range(2 * (executor == "optuna"))]
        try:
            Session.start({**raw, "executor": chosen}, tmp_path / "workers").run()
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        alone, others = recorded(tmp_path / "alone"), recorded(tmp_path / "workers")
        assert facts(others) == facts(alone)
        assert any(trial.state is State.PRUNED for trial in alone)
    finally:
        monkeypatch.undo()
        forget_plugins()


def test_trials_of_other_fidelities_are_not_compared(tmp_path: Path) -> None:
    strategy = {"name": "successive_halving", "fidelities": [3, 9], "candidates": 9}
    trials = run(tmp_path / "run", {"name": "median", "n_startup_trials": 8}, strategy=strategy, budget={"trials": 24})
    # A bracket has 9 candidates with 3 steps and 3 with 9: of the latter, never 8 are complete.
    states = {fidelity: {t.state for t in trials if t.fidelity == fidelity} for fidelity in (3, 9)}
    assert states == {3: {State.COMPLETE, State.PRUNED}, 9: {State.COMPLETE}}


def test_the_stage_may_be_the_second_one(tmp_path: Path) -> None:
    """Numbers count from the first trial of the stage."""
    spec = {"name": "hyperband", "max_resource": STEPS}
    raw = configuration(spec, SPACE, ToyCurves(SPACE, steps=STEPS))
    first = {**raw["stages"][0], "name": "first", "pruner": None, "budget": {"trials": 7}}
    Session.start({**raw, "stages": [first, raw["stages"][0]]}, tmp_path / "two").run()
    trials = [t for t in recorded(tmp_path / "two") if t.stage == "search"]
    hyperband, past = Hyperband(Problem({"accuracy": "maximize"}), max_resource=STEPS), list[EarlierTrial]()
    for number, trial in enumerate(trials):
        judge = hyperband.judge(Earlier(number, tuple(past)))
        decisions = [judge.prunes(step, value) for step, value in reports(trial)]
        assert decisions[-1] is (trial.state is State.PRUNED)
        assert not any(decisions[:-1])
        value = trial.metrics["accuracy"] if trial.state is State.COMPLETE else None
        past.append(EarlierTrial(number, trial.state, value, tuple(map(tuple, reports(trial))), dict(judge.notes)))
        assert trial.info.get("pruner", {}) == judge.notes


@pytest.mark.parametrize(
    ("pruner", "changes", "message"),
    [
        ("medain", {}, r"stages\[0\].pruner.name: unknown pruner 'medain'; did you mean 'median'"),
        ({"name": "median", "warmup": 3}, {}, r"stages\[0\].pruner"),
        ({"name": "median", "n_warmup_steps": -1}, {}, "cannot be negative"),
        ({"name": "percentile", "percentile": 120}, {}, "between 0 and 100"),
        ("percentile", {}, "percentile"),
        ("threshold", {}, "lower or upper"),
        ({"name": "hyperband", "reduction_factor": 1}, {}, r"pruner.reduction_factor: must be at least 2"),
        ({"name": "hyperband", "max_resource": 2, "min_resource": 3}, {}, "at least min_resource"),
        ({"name": "successive_halving", "min_resource": 0}, {}, "min_resource"),
        ({"name": "optuna", "pruner": "optuna.pruners:BasePruner"}, {}, "concrete subclass"),
        ({"name": "optuna", "pruner": "optuna.nothing:At"}, {}, "cannot import"),
        ({"name": "optuna", "pruner": "optuna.pruners:MedianPruner", "settings": {"a": 1}}, {}, "rejects its settings"),
        ("median", {"problem": {"objectives": {"toy_cost": "minimize"}}}, "is a cost"),
        ("median", {"evaluator": None, "problem": {"objectives": {"toy_cost": "minimize"}}}, "no evaluator"),
        (
            "median",
            {"problem": {"objectives": {"accuracy": "maximize", "toy_cost": "minimize"}}},
            "judges one objective",
        ),
    ],
)
def test_bad_settings_are_refused_before_the_run(
    pruner: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    registry = PluginManager({"AUTOML_NAS_PLUGINS": "optuna,evolution"}).load()
    registry.register_module(toy_plugin, "toys")
    from automl_nas.run import make_plan

    raw = configuration(pruner)
    raw["stages"][0] |= changes
    raw["problem"].pop("costs")
    with pytest.raises(ConfigurationError, match=message):
        make_plan(raw, with_builtin(registry).registry, {})


def test_an_evaluator_that_reports_nothing_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path / "run", "median", ToyEvaluator(SPACE), budget={"trials": 3})
    warnings = [record.getMessage() for record in caplog.records if "reported no intermediate value" in record.message]
    assert len(warnings) == 1


def test_values_that_are_reported_twice_count_once() -> None:
    judge = Threshold(Problem({"loss": "minimize"}), upper=1.0).judge(Earlier(0, ()))
    assert [judge.prunes(1, 0.5), judge.prunes(1, 2.0), judge.prunes(2, 2.0)] == [False, False, True]
    assert replace(Request(0, ToySpace().sample(__import__("random").Random(0)), 0), earlier=Earlier(0, ())).earlier
