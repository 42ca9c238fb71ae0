"""Whether a run may take long, from a few training steps: cheap enough to be asked before every run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.task import Task
from automl_nas.evaluation.training.autotune import TimedStep
from automl_nas.evaluation.training.batch_norm import full_batches
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.final.rehearsal import covering
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.streams import stream_seed

_CAUTION = 2.0
"""Factor of the guess: a step of a supernet takes longer than one of a network, and an optimiser adds to both."""

_FORWARD = 1 / 3
"""A batch that is scored, in training steps: a backward pass has twice the multiply-adds of the forward pass."""

_STEPS, _ENOUGH_SECONDS = 6, 20.0
"""Largest number of timed training steps; after this time there are no more than two."""


def may_take_longer(plan: Plan, seconds: float, ranks: int = 1) -> bool:
    """Return whether a run may take longer than some seconds.

    The guess is the number of training iterations, with a part for each batch that a trial is scored on, times the
    duration of a training step of one network, times `_CAUTION`. Iterations are counted from the settings of strategies
    and evaluators whose type is `Recipe`. The fastest of up to `_STEPS` steps counts, on a CPU by the time of the
    processor if that is shorter: a machine that is busy for a moment does not make a run long. A run without a task is
    taken to be short: it trains nothing and delivers no network, so that its first trial shows what can fail.

    Args:
        plan: of the run.
        seconds: the limit.
        ranks: the number of processes of the run; a step is timed with the part of a batch that one of them has.
    """
    task = plan.task
    if task is None or not plan.space.input_shape:
        return False
    try:
        plan.runtime.require()
    except ConfigurationError:  # other processes evaluate, on devices that this one does not have
        return False
    iterations = sum(_iterations(plan, stage, task) for stage in plan.stages) + _final_iterations(plan)
    if not iterations:
        return False
    try:
        return _slower(plan, task, seconds / (_CAUTION * iterations), ranks)
    except Exception:  # the user's network or task; reported where the run needs them
        return False


def _iterations(plan: Plan, stage: StagePlan, task: Task) -> float:
    """Return the number of training iterations of a stage; a batch that a trial is scored on is a part of one."""
    settings, batches = stage.settings, full_batches(task, "train")
    training = _epochs(plan, "strategies", settings.strategy, f"{stage.path}.strategy") * batches
    if settings.evaluator is None:
        return training
    per_trial = _epochs(plan, "evaluators", settings.evaluator, f"{stage.path}.evaluator") * batches
    per_trial += _FORWARD * math.ceil(task.size("search") / max(1, task.size("train")) * batches)
    return training + _trials(plan, stage) * per_trial


def _trials(plan: Plan, stage: StagePlan) -> float:
    """Return the number of trials of a stage: of its budget or its strategy, at most the architectures of the space.

    Strategies that do not propose candidates by ``ask``, and do not say how many, are taken to have few.
    """
    settings, path = stage.settings, f"{stage.path}.strategy"
    strategy = plan.components.class_of("strategies", settings.strategy["name"], path)
    planned, searches = None, isinstance(strategy, AskTellStrategy)
    if isinstance(strategy, type):
        searches = issubclass(strategy, AskTellStrategy)
        if (
            issubclass(strategy, AskTellStrategy)
            and strategy.checker() is strategy
            and not plan.components.needs_artifacts("strategies", settings.strategy, path)
        ):
            # Constructing it is cheap and has no side effects: that is what its checker says.
            seed = stream_seed(plan.seed, settings.name)
            with plan.runtime.seeded(seed, "length"):
                planned = plan.components.construct(
                    "strategies", settings.strategy, plan.collaborators(stage.problem), seed, path
                ).planned
    else:
        planned = strategy.planned
    steps = settings.budget.steps
    limits = [settings.budget.trials, planned, None if steps is None else steps * settings.batch]
    counts = [limit for limit in limits if limit is not None]
    return min([plan.space.size, *counts]) if counts or searches else 0


def _epochs(plan: Plan, kind: str, spec: Mapping[str, Any], path: str) -> float:
    """Return the epochs of the recipes among the settings of a component."""
    recipes = [item.name for item in plan.components.settings(kind, spec["name"], path) if item.type is Recipe]
    return float(sum(spec[name]["epochs"] for name in recipes))


def _final_iterations(plan: Plan) -> float:
    if plan.final is None or plan.final_task is None:
        return 0.0
    settings = plan.final.settings
    networks = (settings.retrained + len(settings.baselines)) * settings.seeds + (settings.distill is not None)
    return float(networks * settings.train.epochs * full_batches(plan.final_task, settings.split))


def _slower(plan: Plan, task: Task, seconds: float, ranks: int) -> bool:
    """Return whether every timed training step of a network with as many options as possible takes longer.

    The first step includes what happens once in a process. If even that one is faster, it is the only one.
    """
    plan.runtime.activate()  # as in the run: steps on other numbers of threads take other times
    seed = stream_seed(plan.seed, "length")
    if ranks == 1:
        batch = next(iter(task.batches("train", 0, seed)))
    else:
        batch = next(iter(task.batch_parts("train", 0, seed, rank=0, size=ranks)))
    architecture = covering(plan.space)[0]
    timed, spent = TimedStep(plan.runtime, lambda: plan.space.build(architecture), task, batch, plan.seed), 0.0
    for number in range(_STEPS):
        if number > 1 and spent > _ENOUGH_SECONDS:
            break
        step = _step_seconds(plan, timed)
        if step <= seconds:
            return False
        spent += step
    return True


def _step_seconds(plan: Plan, timed: TimedStep) -> float:
    """Return the seconds of a step. The time of the processor counts neither other programs nor work of a GPU."""
    begun = time.process_time()
    step = timed.step()
    return min(step, time.process_time() - begun) if plan.runtime.device.type == "cpu" else step
