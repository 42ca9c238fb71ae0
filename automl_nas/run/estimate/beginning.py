"""What is done before a new run begins: rehearsals, sharing out its time budget, and its first steps if it is long."""

from __future__ import annotations

import time
from dataclasses import replace

from automl_nas.errors import RunInterrupted
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import TrainingLimit
from automl_nas.run.estimate.budget import share_out, shared_plan
from automl_nas.run.estimate.estimate import MEASURING, RunEstimate, estimate_rehearsed
from automl_nas.run.estimate.long_runs import may_take_longer
from automl_nas.run.estimate.short_run import Shortening
from automl_nas.run.final.rehearsal import rehearse_compilation, rehearse_export
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Notifications
from automl_nas.run.number_text import duration
from automl_nas.run.trials.rehearsal import rehearse

_MEASURED_SHARE = 0.02
"""Share of a time budget for which each stage is measured."""


def prepare(plan: Plan, notifications: Notifications, begun: float, stop: StopFlag) -> Plan:
    """Rehearse a new run, and return the plan of the run: the given one, or one that is shortened to its time budget.

    A run that may take longer than ``smoke_above_minutes`` does the first steps of all its stages in a temporary
    directory. With a time budget they are done in any case, since the stages are measured.

    Args:
        plan: as written.
        notifications: receive what is about to happen, and the estimate.
        begun: the value of `time.perf_counter` from which a time budget counts.
        stop: whether to stop.

    Raises:
        UserError: a worker process, an export or a component fails, or the budget is too small.
        RunFailedError: a stage fails in its first steps.
        KeyboardInterrupt: it was asked to stop.
    """
    rehearse(plan)
    rehearse_compilation(plan)
    rehearse_export(plan, notifications.message, notifications.warn)
    budget, limit = plan.config.get("budget"), plan.config["smoke_above_minutes"]
    if budget is not None and budget["shortened"] is None:
        return _within_budget(plan, notifications, budget["minutes"], begun, stop)
    if limit is not None and may_take_longer(plan, 60 * limit):
        notifications.message(
            f"the run may take more than {limit:g} minutes: everything in it is tried first (smoke_above_minutes: null "
            "leaves this out)"
        )
        estimate = _estimate(plan, begun, notifications, MEASURING, stop)
        notifications.message(f"every stage, check and export works; estimate: {_total(estimate)}")
    return plan


def _estimate(
    plan: Plan, begun: float, notifications: Notifications, shortening: Shortening, stop: StopFlag
) -> RunEstimate:
    """Return the estimate. What stops it is an interruption before the run, as in the rehearsals."""
    try:
        return estimate_rehearsed(plan, time.perf_counter() - begun, notifications.message, shortening, stop)
    except RunInterrupted as error:
        raise KeyboardInterrupt from error


def _within_budget(plan: Plan, notifications: Notifications, minutes: float, begun: float, stop: StopFlag) -> Plan:
    estimate = _estimate(plan, begun, notifications, _measuring(minutes), stop)
    shares = share_out(plan, estimate, minutes, time.perf_counter() - begun)
    for line in shares.lines():
        notifications.message(line)
    return shared_plan(plan, shares)


def _measuring(minutes: float) -> Shortening:
    """Return the short run that measures a run with a time budget: of a small budget it takes a small part."""
    seconds = min(MEASURING.seconds or 0.0, 60 * minutes * _MEASURED_SHARE)
    return replace(
        MEASURING, seconds=seconds, training=TrainingLimit(MEASURING.training.iterations, seconds=seconds / 2)
    )


def _total(estimate: RunEstimate) -> str:
    return "unknown" if estimate.seconds is None else duration(estimate.seconds)
