"""Speeds from marks, and durations from speeds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from end_to_end.runs import config

from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.plugin.events import ProgressMade, StageStarted, TrialFinished
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.sections import BudgetSettings, ProblemSettings, StageSettings
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.estimate import estimate as estimate_module
from automl_nas.run.estimate.estimate import MEASURING, estimate_rehearsed, final_estimate, stage_estimate
from automl_nas.run.estimate.feasibility import SAMPLES, feasibility
from automl_nas.run.estimate.short_run import ShortRun, short_run
from automl_nas.run.estimate.smoke import ONE_STEP
from automl_nas.run.estimate.stage_clock import StageClock, StageTimes
from automl_nas.space import Architecture
from automl_nas.strategy.feasible_sampler import FeasibleSampler
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.streams import stream
from automl_nas.testing.toys import ToyCost, ToySpace


def _stage(budget: BudgetSettings, batch: int = 1) -> StagePlan:
    settings = StageSettings(
        name="search", strategy={"name": "x", "iterations_per_step": 50}, budget=budget, batch=batch
    )
    return StagePlan(settings, Problem({"accuracy": "maximize"}), "stages[0]", ProblemSettings())


def test_the_pace_leaves_out_the_warm_up_of_each_network() -> None:
    # 5 s until the first mark, then 0.1 s an iteration; the second network takes 0.3 s an iteration.
    marks = [(5.0, 10.0, 0), (6.0, 20.0, 0), (7.0, 30.0, 0), (20.0, 40.0, 1), (23.0, 50.0, 1)]
    assert StageTimes("final", 25.0, marks, 100.0, "iterations").pace == pytest.approx(0.2)


def test_the_pace_of_a_single_mark_is_that_of_the_whole_stage() -> None:
    assert StageTimes("search", 6.0, [(6.0, 3.0, 0)], 9.0, "trials").pace == 2.0


def test_the_duration_of_a_stage_with_two_phases() -> None:
    # 2 s construction, 10 iterations at 0.1 s; of 1,000 iterations a quarter at 0.1 s and the others at 0.3 s.
    times = StageTimes("search", 3.0, [(2.5, 5.0, 0), (3.0, 10.0, 0)], 1000.0, "iterations")
    estimate = stage_estimate(_stage(BudgetSettings()), times, [(0.25, 0.1), (0.75, 0.3)], 1)
    assert estimate.seconds == pytest.approx(2 + 25 + 225)


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [
        (BudgetSettings(), 100.0),
        (BudgetSettings(trials=30), 30.0),
        (BudgetSettings(steps=5), 20.0),
        (BudgetSettings(seconds=12.0), 12.0),
    ],
)
def test_budgets_limit_a_search(budget: BudgetSettings, seconds: float) -> None:
    times = StageTimes("search", 4.0, [(1.0, 1.0, 0), (4.0, 4.0, 0)], 100.0, "trials")
    assert stage_estimate(_stage(budget, batch=4), times, [(1.0, 1.0)], 1).seconds == pytest.approx(seconds)


def test_workers_share_the_trials() -> None:
    times = StageTimes("search", 4.0, [(1.0, 1.0, 0), (4.0, 4.0, 0)], 100.0, "trials")
    assert stage_estimate(_stage(BudgetSettings()), times, [(1.0, 1.0)], 4).seconds == pytest.approx(25)


def test_a_strategy_without_a_total_has_no_estimate() -> None:
    times = StageTimes("search", 4.0, [(1.0, 1.0, 0), (4.0, 4.0, 0)], None, "trials")
    assert stage_estimate(_stage(BudgetSettings()), times, [(1.0, 1.0)], 1).seconds is None


def test_the_final_stage_keeps_the_time_of_scoring_and_export() -> None:
    times = StageTimes("final", 20.0, [(1.0, 10.0, 0), (2.0, 20.0, 0)], 1020.0, "iterations")
    assert final_estimate(times).seconds == pytest.approx(20 + 1000 * 0.1)


def _problem(space: ToySpace, *limits: str) -> Problem:
    model = TabulatedCost(ToyCost(space), space)
    return Problem(
        {"accuracy": "maximize"}, [parse_constraint("toy_cost", text) for text in limits], {"toy_cost": model}
    )


def _number_of_sums(blocks: int, most: int) -> int:
    """Count sequences of 0, 1, 2 with a sum of at most ``most``, by convolution."""
    counts = [1]
    for _ in range(blocks):
        counts = [
            sum(counts[total - value] for value in range(3) if 0 <= total - value < len(counts))
            for total in range(len(counts) + 2)
        ]
    return sum(counts[: most + 1])


def test_one_limit_on_an_additive_cost_is_counted_exactly() -> None:
    space = ToySpace(blocks=12)
    part = feasibility("search", space, _problem(space, "<= 7"), seed=0)
    assert part.count == _number_of_sums(12, 7)
    assert part.interval == (part.share, part.share)


def test_the_interval_of_a_drawn_share_contains_the_exact_one() -> None:
    space = ToySpace(blocks=12)
    part = feasibility("search", space, _problem(space, "<= 12", ">= 6"), seed=0)
    exact = (_number_of_sums(12, 12) - _number_of_sums(12, 5)) / 3**12
    assert (part.count, part.samples) == (None, SAMPLES)
    assert part.interval[0] < exact < part.interval[1]


def _trained_alone(strategy: object = "random") -> Plan:
    stage = {"name": "search", "strategy": strategy, "evaluator": {"name": "train", "train": {"epochs": 7}}}
    settings: dict[str, Any] = config(final=None, stages=[{**stage, "budget": {"trials": 100}}])
    return make_plan(settings, complete_manager().registry)


def test_a_short_run_trains_candidates_for_one_epoch() -> None:
    epochs: list[object] = []
    short_run(_trained_alone(), ONE_STEP, handlers={TrialFinished: lambda e: epochs.append(e.trial.info["epochs"])})
    assert set(epochs) == {1}


@pytest.mark.parametrize(
    ("share", "reports", "known"), [(1.0, 2, False), (1.0, 3, True), (4.9, 1, False), (5.0, 0, True)]
)
def test_a_speed_is_known_after_three_reports_or_five_times_the_time(share: float, reports: int, known: bool) -> None:
    clock = StageClock()
    clock.stages.append(StageTimes("search", marks=[(float(n), float(n), 0) for n in range(reports)]))
    assert clock.suffices(share) is known


def test_the_preparation_is_no_part_of_the_trials_and_counts_as_a_whole() -> None:
    """Ten of 100 candidates in 2 s after 1 s of construction; then a trial of 30 s, in place of those to come."""
    clock = StageClock()
    times = StageTimes("search", 3.0, [(1.0, 0.0, 0), (3.0, 10.0, 0)], 100.0, "candidates measured")
    clock.stages.append(times)
    clock.count_trial(30.0)
    assert (times.pace, times.done, times.total, times.unit) == (30.0, 1.0, None, "trials")
    assert times.seconds == pytest.approx(1.0 + 100 * 0.2 + 30.0)
    estimate = stage_estimate(_stage(BudgetSettings(trials=7)), times, [(1.0, times.pace)], 1)
    assert estimate.seconds == pytest.approx(1.0 + 100 * 0.2 + 7 * 30.0)


def test_a_preparation_that_ends_while_it_is_measured_is_no_work() -> None:
    clock = StageClock()
    handlers = clock.handlers
    handlers[StageStarted](StageStarted("search", 0, 1))
    for done, total, unit in ((10, 30, "measured"), (20, 30, "measured"), (1, 5, "trials"), (2, 5, "trials")):
        handlers[ProgressMade](ProgressMade(done, total, unit))
    (times,) = clock.stages
    assert [mark[1] for mark in times.marks] == [1, 2]
    assert (times.total, times.unit) == (5, "trials")


def test_a_stage_that_is_not_prepared_in_time_is_measured_by_a_trial_of_another_network() -> None:
    evidence = [{"name": "zero_cost", "proxies": ["synflow"], "images": 8}]
    plan = _trained_alone(strategy={"name": "surrogate", "evidence": evidence, "pool": 500})
    times = short_run(plan, replace(MEASURING, seconds=0.01)).times[0]
    assert (times.unit, times.done, times.total) == ("trials", 1.0, None)
    assert times.pace is not None
    # 490 candidates or so are estimated, each takes more than a tenth of a millisecond.
    assert times.seconds - times.pace > 490 * 1e-4


def test_time_ends_no_stage_before_its_speed_is_known() -> None:
    # A hundredth of a second: each training takes longer. Five times that may end it after the first one.
    measured = short_run(_trained_alone(), replace(MEASURING, seconds=0.01)).times[0]
    assert measured.done < 100
    assert measured.done >= 3 or measured.seconds >= 0.05


def test_a_smoke_run_delivers_the_smallest_of_some_random_networks() -> None:
    """The strategy proposes nothing in its first step; the draws are repeated with the sampler itself."""
    settings = config(
        stages=[{"name": "search", "strategy": {"name": "darts", "train": {"epochs": 2}}}],
        final={"train": {"epochs": 1}, "export": []},
    )
    plan = make_plan(settings, complete_manager().registry)
    rng, sampler = stream(plan.seed, "stand-in"), FeasibleSampler(plan.space, plan.stages[0].problem, 1000)
    drawn = [sampler.sample(rng) for _ in range(4)]
    sizes = [sum(p.numel() for p in plan.space.build(architecture).parameters()) for architecture in drawn]
    assert len(set(sizes)) > 1
    result = short_run(plan, ONE_STEP).result
    found = Architecture(result["final"]["networks"][0]["architecture"])
    assert sum(p.numel() for p in plan.space.build(found).parameters()) == min(sizes)


def test_the_estimate_is_that_of_all_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    # One epoch takes 1 s, and what precedes it 0.5 s.
    times = StageTimes("search", 4.5, [(1.5, 1.0, 0), (4.5, 4.0, 0)], 100.0, "trials")
    monkeypatch.setattr(estimate_module, "short_run", lambda *_, **__: ShortRun((times,), {"final": None}))
    (stage,) = estimate_rehearsed(_trained_alone(), 0.0, lambda text: None, MEASURING).stages
    assert (stage.pace, stage.seconds) == (7.0, 0.5 + 100 * 7.0)
