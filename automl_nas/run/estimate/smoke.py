"""The smoke run: every stage of a run, every check and every export, with two iterations instead of all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.evaluation.ranks import join_ranks
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.components import separate_objects
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.stages import TrainingLimit
from automl_nas.run.estimate.estimate import read_configuration
from automl_nas.run.estimate.short_run import Shortening, short_run
from automl_nas.run.rank_check import check_alike, check_ranks
from automl_nas.run.rank_plan import agreed_plan
from automl_nas.run.trials.rehearsal import rehearse

ONE_STEP = Shortening(
    steps=1,
    seconds=None,
    iterations_per_step=2,
    training=TrainingLimit(2),
    seeds=1,
    trials=1,
    scored_batches=2,
    stand_ins=4,
)
"""The short run of a smoke run."""


@dataclass(frozen=True)
class SmokeRun:
    """A smoke run without errors.

    Attributes:
        seconds: its duration, with the checks before the first stage.
        stages: stage -> its duration in seconds.
        exports: the exported files, relative to the run directory.
    """

    seconds: float
    stages: Mapping[str, float]
    exports: tuple[str, ...]


def smoke_run(
    config: Mapping[str, Any] | str | os.PathLike[str],
    *,
    message: Callable[[str], object] | None = None,
    **sections: Any,
) -> SmokeRun:
    """Do one step of every stage in a temporary directory: what ``automl-nas run --smoke`` does.

    A step is one trial, or two training iterations if the strategy has a setting ``iterations_per_step``. Every network
    of the final stage is trained for two iterations with one seed, then scored, tested and exported like after a whole
    run; of each split that it is scored on, it computes two batches. On the CPU only the first samples of a batch are
    trained on and scored, since a configuration for a GPU has batches that take minutes there. Other networks are not
    exported: the run rehearses their export before it begins. If the search proposes nothing in its first step, the
    smallest of some random networks takes the place of the found one.
    Evaluations are done in this process; that worker processes can begin is checked. Observers are left out. In a
    script that torchrun starts, all processes call it alike, and train with their parts of the batches.

    Args:
        config: a configuration: a mapping, or the path of a YAML file.
        message: receives what is about to happen, in words.
        sections: sections of the configuration, replacing those of ``config``.

    Raises:
        UserError: the configuration is invalid, or no architecture meets its constraints.
        RunFailedError: a stage or an export fails.
        RunInterrupted: a signal stopped the smoke run.
    """
    begun, ranks = time.perf_counter(), join_ranks()
    with ranks.guarded():
        raw, manager = read_configuration(config, sections), complete_manager()
        check_alike(ranks, manager, raw, Path())
        led = ranks.lead(lambda: make_plan(raw, manager.registry))
        plan = agreed_plan(ranks, led, manager.registry, separate_objects(raw)[1])
        check_ranks(ranks, plan, None)
        return smoke_plan(plan, message=message, begun=begun)


def smoke_plan(plan: Plan, *, message: Callable[[str], object] | None = None, begun: float | None = None) -> SmokeRun:
    """Do the smoke run of a resolved configuration; see `smoke_run`.

    Args:
        plan: of the whole run.
        message: receives what is about to happen, in words.
        begun: the value of `time.perf_counter` from which the duration counts; None: now.
    """
    begun = time.perf_counter() if begun is None else begun
    say = message or (lambda text: None)
    plan.runtime.ranks.lead(lambda: rehearse(plan))
    say("smoke run: one step of each stage in a temporary directory")
    short = short_run(plan, ONE_STEP)
    short.refuse_failed_exports()
    final = short.result["final"] or {}
    return SmokeRun(
        seconds=time.perf_counter() - begun,
        stages={stage.name: stage.seconds for stage in short.times},
        exports=tuple(final.get("files", ())),
    )
