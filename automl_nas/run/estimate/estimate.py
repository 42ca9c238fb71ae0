"""How long a run will take and what it needs, from a short run of its stages."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.sections import BudgetSettings
from automl_nas.run.configuration.stages import StagePlan, TrainingLimit
from automl_nas.run.estimate.feasibility import Feasibility, feasibility
from automl_nas.run.estimate.short_run import ITERATIONS, Shortening, add_weights, short_run, shortened_evaluation
from automl_nas.run.estimate.stage_clock import TRIALS, StageTimes
from automl_nas.run.final.rehearsal import rehearse_export
from automl_nas.run.interruption import StopFlag
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.yaml import read_yaml
from automl_nas.run.trials.rehearsal import rehearse
from automl_nas.strategy.base import Phase, Strategy
from automl_nas.streams import stream_seed

MEASURING = Shortening(steps=None, seconds=6.0, iterations_per_step=10, training=TrainingLimit(20, seconds=3.0))
"""The short run from which durations are estimated: every stage works for some seconds, and usually for three steps."""


@dataclass(frozen=True)
class StageEstimate:
    """The duration of a stage.

    Attributes:
        name: of the stage.
        work: the amount of work: number of iterations or trials; None: the strategy does not tell.
        unit: of the amount; empty if the stage reports none.
        measured: the part of it that was done to measure the speed.
        pace: seconds for a unit; None if no work was measured.
        seconds: the estimated duration; None: unknown.
        fixed: the part of the duration that does not depend on the amount of work.
        parallel: number of units that are worked on at the same time.
    """

    name: str
    work: float | None
    unit: str
    measured: float
    pace: float | None
    seconds: float | None
    fixed: float = 0.0
    parallel: int = 1


@dataclass(frozen=True)
class RunEstimate:
    """What is known of a run before it begins.

    Attributes:
        config: the resolved configuration.
        size: the number of raw assignments of the space.
        decisions: the number of decisions of the space.
        feasibilities: of each stage with limits of its own; one without limits if no stage has any.
        preparation: seconds that checks before the first stage take.
        stages: the stages in order, with the final stage.
        memory: the largest amount of memory of this process, in bytes.
        device_memory: the largest amount of memory of tensors on the GPU, in bytes; None without one.
        device: the device of the run.
        seconds: the estimated duration of the run; None: that of a stage is unknown.
    """

    config: Mapping[str, Any]
    size: int
    decisions: int
    feasibilities: tuple[Feasibility, ...]
    preparation: float
    stages: tuple[StageEstimate, ...]
    memory: int | None
    device_memory: int | None
    device: str
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return asdict(self)


def plan_run(
    config: Mapping[str, Any] | str | os.PathLike[str],
    *,
    message: Callable[[str], object] | None = None,
    **sections: Any,
) -> RunEstimate:
    """Return what is known of a run before it begins: what ``automl-nas plan`` does.

    Each stage works for some seconds in a temporary directory. Its speed and the amount of work that its strategy
    reports give its duration. Measure on an idle machine: the speed is that of the moment.

    Args:
        config: a configuration: a mapping, or the path of a YAML file.
        message: receives what is about to happen, in words.
        sections: sections of the configuration, replacing those of ``config``.

    Raises:
        UserError: the configuration is invalid, or no architecture meets its constraints.
        RunFailedError: a stage fails in its first steps.
        RunInterrupted: a signal stopped the measurement.
    """
    return estimate_plan(make_plan(read_configuration(config, sections), complete_manager().registry), message=message)


def read_configuration(
    config: Mapping[str, Any] | str | os.PathLike[str], sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a configuration as a mapping, with sections replaced."""
    raw = dict(config) if isinstance(config, Mapping) else dict(read_yaml(Path(config)).value or {})
    raw.update(sections)
    return raw


def estimate_plan(
    plan: Plan, *, message: Callable[[str], object] | None = None, shortening: Shortening = MEASURING
) -> RunEstimate:
    """Return the estimate of a resolved configuration; see `plan_run`.

    Args:
        plan: of the whole run.
        message: receives what is about to happen, in words.
        shortening: how long each stage is measured.
    """
    say = message or (lambda text: None)
    begun = time.perf_counter()
    rehearse(plan)
    rehearse_export(plan, say, say)
    return estimate_rehearsed(plan, time.perf_counter() - begun, say, shortening)


def estimate_rehearsed(
    plan: Plan,
    preparation: float,
    message: Callable[[str], object],
    shortening: Shortening,
    stop: StopFlag | None = None,
    folder: Path | None = None,
) -> RunEstimate:
    """Return the estimate of a plan whose workers and exports were rehearsed, which took ``preparation`` seconds.

    Under torchrun all ranks call it, and each returns the durations that it measured.

    Args:
        plan: of the whole run.
        preparation: in seconds.
        message: receives what is about to happen, in words.
        shortening: how long each stage is measured.
        stop: whether to stop; None: only a signal stops the measurement.
        folder: for the temporary directory; see `short_run`.

    Raises:
        RunFailedError: a stage or an export fails.
        RunInterrupted: a signal, or what ``stop`` waits for, ended it.
    """
    _reset_device_memory(plan)
    message("doing the first steps of each stage in a temporary directory")
    stop = stop or StopFlag()
    short = short_run(plan, shortening, stop=stop, folder=folder)
    short.refuse_failed_exports()
    times = list(short.times)
    stages = []
    for position, stage in enumerate(plan.stages):
        phases = _phases(plan, stage)
        evaluation = shortened_evaluation(plan, stage)
        whole = times[position].pace
        if whole is not None and evaluation is not None:
            whole /= evaluation.share
        paces = [(phases[0].share, whole)]
        if phases[0].settings:
            paces[0] = (phases[0].share, _phase_times(plan, position, phases[0], shortening, stop, folder).pace)
        paces += [
            (phase.share, _phase_times(plan, position, phase, shortening, stop, folder).pace) for phase in phases[1:]
        ]
        stages.append(stage_estimate(stage, times[position], paces, _parallel(plan, stage)))
    if plan.final is not None:
        stages.append(final_estimate(times[-1]))
    seconds = [stage.seconds for stage in stages if stage.seconds is not None]
    return RunEstimate(
        config=plan.config,
        size=plan.space.size,
        decisions=len(plan.space.decisions),
        feasibilities=_feasibilities(plan),
        preparation=preparation,
        stages=tuple(stages),
        memory=peak_memory(),
        device_memory=_device_memory(plan),
        device=str(plan.runtime.device),
        seconds=preparation + sum(seconds) if len(seconds) == len(stages) else None,
    )


def stage_estimate(
    stage: StagePlan, times: StageTimes, paces: Sequence[tuple[float, float | None]], parallel: int
) -> StageEstimate:
    """Return the estimate of a stage of the search.

    Args:
        stage: as configured.
        times: of its short run.
        paces: share of the work and seconds for a unit, for each phase.
        parallel: number of evaluations at the same time.
    """
    budget = stage.settings.budget
    work = _limited(times.total, budget, stage, times.unit)
    if any(pace is None for _, pace in paces):
        pace = None
    else:
        pace = sum(share * pace for share, pace in paces if pace is not None)
    if times.unit != TRIALS:
        parallel = 1
    # What the short run did besides the work: construction, warm-up, and the end of the stage. A stage without a unit
    # ended without reporting any work.
    fixed = max(0.0, times.seconds - times.done * (times.pace or 0.0)) if times.unit else times.seconds
    seconds = None if times.unit else fixed
    if work is not None and pace is not None:
        seconds = fixed + work * pace / parallel
    if budget.seconds is not None:
        seconds = budget.seconds if seconds is None else min(seconds, budget.seconds)
        fixed = min(fixed, seconds)
    return StageEstimate(times.name, work, times.unit, times.done, pace, seconds, fixed, parallel)


def final_estimate(times: StageTimes) -> StageEstimate:
    """Return the estimate of the final stage: scoring, testing and exporting were done as in the run."""
    pace, seconds = times.pace, None
    if pace is not None and times.total is not None:
        seconds = times.seconds + (times.total - times.done) * pace
    fixed = max(0.0, times.seconds - times.done * (pace or 0.0))
    return StageEstimate(times.name, times.total, times.unit, times.done, pace, seconds, fixed)


def _limited(total: float | None, budget: BudgetSettings, stage: StagePlan, unit: str) -> float | None:
    """Return the work of a stage within the limits of its budget on trials and steps."""
    limits = [total]
    if unit == TRIALS:
        limits.append(budget.trials)
    if budget.steps is not None:
        per_step = stage.settings.batch if unit == TRIALS else stage.settings.strategy.get(ITERATIONS)
        limits.append(None if per_step is None else budget.steps * per_step)
    return min((float(limit) for limit in limits if limit is not None), default=None)


def _phases(plan: Plan, stage: StagePlan) -> Sequence[Phase]:
    strategy = strategy_class(plan, stage)
    return (Phase(1.0),) if strategy is None else strategy.phases(stage.settings.strategy)


def strategy_class(plan: Plan, stage: StagePlan) -> type[Strategy] | None:
    """Return the class of a stage's strategy; None if the strategy is a constructed object, which has no settings."""
    strategy = plan.components.class_of("strategies", stage.settings.strategy["name"], f"{stage.path}.strategy")
    return strategy if isinstance(strategy, type) else None


def _phase_times(
    plan: Plan, position: int, phase: Phase, shortening: Shortening, stop: StopFlag, folder: Path | None
) -> StageTimes:
    """Return the times of a stage that begins with a phase."""
    stage = plan.stages[position]
    strategy = {**stage.settings.strategy, **phase.settings}
    changed = replace(stage, settings=replace(stage.settings, strategy=strategy))
    alone = replace(plan, stages=(changed,), final=None)

    def prepare(directory: RunDirectory, short: Plan) -> None:
        for earlier in plan.stages[:position]:
            add_weights(directory, short, earlier)

    return short_run(alone, shortening, prepare=prepare, stop=stop, folder=folder).times[0]


def _parallel(plan: Plan, stage: StagePlan) -> int:
    """Return the number of evaluations that run at the same time; they were measured one after the other.

    Those of ranks were measured as they run.
    """
    if stage.settings.evaluator is None or plan.runtime.world_size > 1:
        return 1
    workers = plan.config["executor"].get("workers") or 1
    return max(1, min(workers, stage.settings.ahead or stage.settings.batch, os.cpu_count() or 1))


def _feasibilities(plan: Plan) -> tuple[Feasibility, ...]:
    """Return one feasibility for each set of limits."""
    seed = stream_seed(plan.seed, "plan")
    stages = {
        _limits_key(stage): stage
        for stage in plan.stages
        if stage.settings.evaluator is not None or not _evaluates(plan)
    }
    return tuple(feasibility(stage.settings.name, plan.space, stage.problem, seed) for stage in stages.values())


def _evaluates(plan: Plan) -> bool:
    return any(stage.settings.evaluator is not None for stage in plan.stages)


def _limits_key(stage: StagePlan) -> str:
    """Return what distinguishes the limits and costs of a stage."""
    problem = stage.problem
    return repr(([(limit.metric, limit.low, limit.high) for limit in problem.constraints], sorted(problem.cost_models)))


def peak_memory() -> int | None:
    """Return the largest amount of memory that this process had, in bytes; None if the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _reset_device_memory(plan: Plan) -> None:
    if plan.runtime.device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(plan.runtime.device)


def _device_memory(plan: Plan) -> int | None:
    if plan.runtime.device.type != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated(plan.runtime.device)
