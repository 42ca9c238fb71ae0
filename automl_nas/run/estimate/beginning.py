"""What is done before a new run begins: rehearsals, sharing out its time budget, and its first steps if it is long."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from automl_nas.errors import RunInterrupted
from automl_nas.evaluation.ranks import Ranks
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
from automl_nas.run.rank_plan import agreed_plan
from automl_nas.run.trials.rehearsal import rehearse

_MEASURED_SHARE = 0.02
"""Share of a time budget for which each stage is measured."""


def prepare(
    plan: Plan,
    notifications: Notifications,
    begun: float,
    stop: StopFlag,
    out: Path,
    ranks: Ranks,
    objects: Mapping[str, object],
) -> Plan:
    """Rehearse a new run, and return the plan of the run: the given one, or one that is shortened to its time budget.

    A run that may take longer than ``smoke_above_minutes`` does the first steps of all its stages in a temporary
    directory. With a time budget they are done in any case, since the stages are measured. Under torchrun all ranks do
    these steps together, and the measurements of rank 0 count.

    Args:
        plan: as written.
        notifications: receive what is about to happen, and the estimate.
        begun: the value of `time.perf_counter` from which a time budget counts.
        stop: whether to stop.
        out: the run directory, which does not exist yet.
        ranks: of the run.
        objects: name -> Python object for the names ``python:module:Class`` in the configuration.

    Raises:
        UserError: a worker process, an export or a component fails, or the budget is too small.
        RunFailedError: a stage fails in its first steps.
        KeyboardInterrupt: it was asked to stop.
    """
    budget, limit = plan.config.get("budget"), plan.config["smoke_above_minutes"]
    minutes: float | None = budget["minutes"] if budget is not None and budget["shortened"] is None else None

    def rehearsed() -> bool:
        rehearse(plan)
        rehearse_compilation(plan)
        rehearse_export(plan, notifications.message, notifications.warn)
        return minutes is None and limit is not None and may_take_longer(plan, 60 * limit, ranks.size)

    tried = ranks.agree(ranks.lead(rehearsed))
    if minutes is None and not tried:
        return plan
    if tried:
        notifications.message(
            f"the run may take more than {limit:g} minutes: everything in it is tried first (smoke_above_minutes: null "
            "leaves this out)"
        )
    shortening = MEASURING if minutes is None else _measuring(minutes)
    try:
        folder = _shared_folder(out) if ranks.size > 1 else None
        preparation = time.perf_counter() - begun
        estimate = estimate_rehearsed(plan, preparation, notifications.message, shortening, stop, folder)
    except RunInterrupted as error:  # an interruption before the run, as in the rehearsals
        raise KeyboardInterrupt from error
    if minutes is None:
        notifications.message(f"every stage, check and export works; estimate: {_total(estimate)}")
        return plan
    shortened = ranks.lead(lambda: _within_budget(plan, notifications, estimate, minutes, begun))
    return agreed_plan(ranks, shortened, plan.components.registry, objects)


def _within_budget(
    plan: Plan, notifications: Notifications, estimate: RunEstimate, minutes: float, begun: float
) -> Plan:
    shares = share_out(plan, estimate, minutes, time.perf_counter() - begun)
    for line in shares.lines():
        notifications.message(line)
    return shared_plan(plan, shares)


def _shared_folder(out: Path) -> Path:
    """Return the folder nearest to the run directory: all ranks see it, which is not so for temporary folders."""
    return next(folder for folder in out.absolute().parents if folder.is_dir())


def _measuring(minutes: float) -> Shortening:
    """Return the short run that measures a run with a time budget: of a small budget it takes a small part."""
    seconds = min(MEASURING.seconds or 0.0, 60 * minutes * _MEASURED_SHARE)
    return replace(
        MEASURING, seconds=seconds, training=TrainingLimit(MEASURING.training.iterations, seconds=seconds / 2)
    )


def _total(estimate: RunEstimate) -> str:
    return "unknown" if estimate.seconds is None else duration(estimate.seconds)
