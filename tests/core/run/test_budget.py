"""A time budget is shared out: the arithmetic, with given speeds; and what a run records of it."""

from __future__ import annotations

import operator
import re
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import config, record

from automl_nas import search
from automl_nas.errors import ConfigurationError, RunDirectoryError, RunInterrupted
from automl_nas.plugin.events import MessageSent, TrialFinished
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.shortened import with_recorded_budget
from automl_nas.run.estimate import beginning
from automl_nas.run.estimate.budget import MARGIN, Shares, share_out, shared_plan
from automl_nas.run.estimate.estimate import RunEstimate, StageEstimate

FIXED = {"supernet": 2.0, "search": 1.0, "final": 10.0}
"""Seconds of each stage that do not depend on its work."""

EPOCH, TRIAL, FINAL_EPOCH = 5.0, 2.0, 4.0
"""Seconds of the units of work."""

EPOCHS, TRIALS, FINAL_EPOCHS = 40, 160, 25
"""The work of the stages as written: 200, 320 and 100 seconds."""


def _settings(**changes: Any) -> dict[str, Any]:
    settings = config(budget={"minutes": 5})
    supernet, candidates = settings["stages"]
    supernet["strategy"]["train"] = {"epochs": EPOCHS, "warmup_epochs": 4}
    candidates["strategy"] |= {"population": 20, "generations": 8}
    settings["final"] = {"train": {"epochs": FINAL_EPOCHS}, "top_k": 2, "export": []}
    return settings | changes


def _plan(**changes: Any) -> Plan:
    return make_plan(_settings(**changes), complete_manager().registry)


def _estimate(plan: Plan, trials: float | None = TRIALS) -> RunEstimate:
    search_seconds = None if trials is None else FIXED["search"] + trials * TRIAL
    stages = (
        StageEstimate("supernet", 400, "iterations", 20, 0.5, FIXED["supernet"] + EPOCHS * EPOCH, FIXED["supernet"]),
        # Two evaluations at the same time, each of twice the duration.
        StageEstimate("search", trials, "trials", 3, 2 * TRIAL, search_seconds, FIXED["search"], parallel=2),
        StageEstimate("final", 500, "iterations", 20, 0.2, FIXED["final"] + FINAL_EPOCHS * FINAL_EPOCH, FIXED["final"]),
    )
    return RunEstimate(plan.config, 0, 0, (), 0.0, stages, None, None, "cpu", None)


def _used(shares: Shares) -> dict[str, Any]:
    return {change.setting: change.used for change in shares.changes}


def _by_hand(seconds: float) -> tuple[int, int, int]:
    """Return the epochs, trials and final epochs of the largest of 10,000 common shares that fits into some seconds.

    Then the stage that does the smallest share of its work gets a unit more as often as one fits, then the next stage.
    """
    best = (1, 2, 1)
    for step in range(1, 10_001):
        share = step / 10_000
        lengths = (
            max(1, int(share * EPOCHS + 1e-9)),
            max(2, int(share * TRIALS + 1e-9)),
            max(1, int(share * FINAL_EPOCHS + 1e-9)),
        )
        if sum(FIXED.values()) + lengths[0] * EPOCH + lengths[1] * TRIAL + lengths[2] * FINAL_EPOCH <= seconds:
            best = lengths
    used, units, most = list(best), (EPOCH, TRIAL, FINAL_EPOCH), (EPOCHS, TRIALS, FINAL_EPOCHS)
    for stage in sorted(range(3), key=lambda stage: best[stage] / most[stage]):
        while (
            used[stage] < most[stage]
            and sum(FIXED.values()) + sum(map(operator.mul, used, units)) + units[stage] <= seconds
        ):
            used[stage] += 1
    return used[0], used[1], used[2]


@pytest.mark.parametrize("minutes", [1, 2, 5, 9])
def test_all_stages_get_the_largest_common_share_that_fits_and_single_ones_the_rest(minutes: float) -> None:
    plan, elapsed = _plan(), 12.0
    shares = share_out(plan, _estimate(plan), minutes, elapsed)
    available = (60 * minutes - elapsed) * (1 - MARGIN)
    epochs, trials, final_epochs = _by_hand(available)
    used = _used(shares)
    assert used["stages.supernet.strategy.train.epochs"] == epochs
    assert used["stages.search.budget.trials"] == trials
    assert used["final.train.epochs"] == final_epochs
    assert used["stages.supernet.strategy.train.warmup_epochs"] == pytest.approx(4 * epochs / EPOCHS)
    assert sum(shares.stages.values()) <= available
    assert shares.stages["search"] == pytest.approx(FIXED["search"] + trials * TRIAL)


def test_a_run_that_fits_is_not_changed() -> None:
    plan = _plan()
    shares = share_out(plan, _estimate(plan), minutes=20, elapsed=0.0)
    assert shares.changes == ()
    shared = shared_plan(plan, shares)
    assert shared.config == {**plan.config, "budget": {"minutes": 5.0, "shortened": {}}}
    assert (shared.stages, shared.final) == (plan.stages, plan.final)


def test_the_least_minutes_that_are_named_are_enough() -> None:
    plan = _plan()
    with pytest.raises(ConfigurationError, match=r"too few for the shortest run.* at least") as raised:
        share_out(plan, _estimate(plan), minutes=0.5, elapsed=3.0)
    assert raised.value.path == "budget.minutes"
    least = float(re.findall(r"at least ([0-9.]+) minutes", str(raised.value))[0])
    # One epoch, the two candidates that the final stage trains, one epoch: 26 seconds besides what is fixed.
    shortest = sum(FIXED.values()) + EPOCH + 2 * TRIAL + FINAL_EPOCH
    assert least == pytest.approx((shortest / (1 - MARGIN) + 3.0) / 60, rel=0.1)
    used = _used(share_out(plan, _estimate(plan), minutes=least, elapsed=3.0))
    assert used["stages.supernet.strategy.train.epochs"] == used["final.train.epochs"] == 1
    assert used["stages.search.budget.trials"] == 2


def test_a_search_without_an_end_gets_an_equal_part_and_what_is_left() -> None:
    plan = _plan()
    # 40 minutes: the other stages take 312 s, and the search what is left of 1,920 s.
    used = _used(share_out(plan, _estimate(plan, trials=None), minutes=40, elapsed=0.0))
    assert used == {"stages.search.budget.trials": int((0.8 * 2400 - 312 - FIXED["search"]) / TRIAL)}
    # 5 minutes: at least a third of 240 s; the others share the rest.
    shares = share_out(plan, _estimate(plan, trials=None), minutes=5, elapsed=0.0)
    assert 80 - TRIAL <= shares.stages["search"] <= 80 + EPOCH + FINAL_EPOCH
    assert sum(shares.stages.values()) <= 240


def test_a_stage_that_does_not_tell_its_work_is_named() -> None:
    plan = _plan()
    unknown = StageEstimate("supernet", None, "iterations", 20, 0.5, None)
    estimate = _estimate(plan)
    with pytest.raises(ConfigurationError, match="the strategy of the stage 'supernet' does not say") as raised:
        share_out(plan, replace(estimate, stages=(unknown, *estimate.stages[1:])), 5, 0.0)
    assert raised.value.path == "stages[0].budget"


def test_the_shortened_configuration_resolves_to_itself() -> None:
    plan = _plan()
    shared = shared_plan(plan, share_out(plan, _estimate(plan), minutes=3, elapsed=0.0))
    again = make_plan(shared.config, complete_manager().registry, plan.components.objects)
    assert again.config == shared.config
    assert [stage.settings for stage in again.stages] == [stage.settings for stage in shared.stages]
    assert again.final is not None
    assert shared.final is not None
    assert again.final.settings == shared.final.settings
    assert with_recorded_budget(plan.config, shared.config) == shared.config


def test_a_stage_that_refuses_its_shortened_settings_is_named() -> None:
    plan = _plan()
    shares = share_out(plan, _estimate(plan), minutes=3, elapsed=0.0)
    wrong = tuple(replace(c, used=-3) if c.setting.endswith("warmup_epochs") else c for c in shares.changes)
    with pytest.raises(ConfigurationError, match="too few: the stage 'supernet' refuses the settings that fit"):
        shared_plan(plan, replace(shares, changes=wrong))


@pytest.mark.parametrize("budget", [{"minutes": 0}, {"minutes": -1}, {"minutes": float("inf")}, {"minutes": "ten"}])
def test_budgets_that_make_no_sense(budget: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        make_plan(config(budget=dict(budget)), complete_manager().registry)
    assert raised.value.path == "budget.minutes"


@pytest.mark.parametrize("limit", [0, -5.0, float("nan"), float("inf"), "60", True])
def test_time_limits_that_make_no_sense(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="time_limit must be a positive number of seconds"):
        search(config(), time_limit=limit)


def test_only_one_budget_can_be_given() -> None:
    with pytest.raises(ConfigurationError, match="second budget"):
        search(config(budget={"minutes": 5}), time_limit=60)


@pytest.fixture
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Estimates as above, without measuring; the plans that were estimated."""
    estimated: list[Plan] = []

    def estimate(plan: Plan, *_: Any) -> RunEstimate:
        estimated.append(plan)
        # 100 s an epoch, 100 s a trial, 100 s an epoch of the final stage.
        stages = (
            StageEstimate("supernet", 30, "iterations", 20, 10, 300, 0),
            StageEstimate("search", 18, "trials", 3, 100, 1800, 0),
            StageEstimate("final", 40, "iterations", 20, 5, 200, 0),
        )
        return RunEstimate(plan.config, 0, 0, (), 0.0, stages, None, None, "cpu", None)

    monkeypatch.setattr(beginning, "estimate_rehearsed", estimate)
    return estimated


def test_a_shortened_run_is_the_run_with_these_lengths(tmp_path: Path, slow_machine: list[Plan]) -> None:
    messages: list[str] = []
    # 2,300 s are estimated. At most 2,000 s are available, and at least 1,900 s unless 125 s pass before: 2 + 16 + 1
    # units. The largest common share gives them, and no stage can have a unit more.
    search(
        config(),
        out=tmp_path / "budget",
        time_limit=2500,
        progress="none",
        handlers={MessageSent: lambda event: messages.append(event.text)},
    )
    assert "time budget: stages.supernet.strategy.train.epochs 3 -> 2" in messages
    written = config()
    written["stages"][0]["strategy"]["train"]["epochs"] = 2
    written["stages"][1]["budget"] = {"trials": 16}
    written["final"]["train"]["epochs"] = 1
    search(written, out=tmp_path / "written", progress="none")
    (trials,) = [text for text in messages if "budget.trials" in text]
    assert trials == "time budget: stages.search.budget.trials no limit -> 16"
    assert len(slow_machine) == 1
    one, other = record(tmp_path / "budget"), record(tmp_path / "written")
    assert one == other


def test_a_resumed_run_keeps_its_lengths(tmp_path: Path, slow_machine: list[Plan]) -> None:
    out = tmp_path / "run"
    whole = search(config(), out=tmp_path / "whole", time_limit=2500, progress="none")
    trials = 0

    def interrupt(_: TrialFinished) -> None:
        nonlocal trials
        trials += 1
        if trials == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(RunInterrupted):
        search(config(), out=out, time_limit=2500, progress="none", handlers={TrialFinished: interrupt})
    assert len(slow_machine) == 2
    with pytest.raises(RunDirectoryError, match="was begun with budget"):
        search(config(), out=out, resume=True, time_limit=2400, progress="none")
    search(config(), out=out, resume=True, time_limit=2500, progress="none")
    assert len(slow_machine) == 2, "a resumed run was estimated again"
    assert record(out) == record(whole.directory)
