"""A run of which every stage ends after its first steps, in a temporary directory."""

from __future__ import annotations

import contextlib
import copy
import functools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, RunFailedError, RunInterrupted
from automl_nas.evaluation.evaluator import Evaluator, State
from automl_nas.evaluation.ranks import Ranks
from automl_nas.evaluation.shortened import Shortened
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.error_text import one_line
from automl_nas.plugin.events import Handlers
from automl_nas.plugin.references import PYTHON
from automl_nas.run.configuration.components import Components, is_constructed
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import FinalPlan, StagePlan, TrainingLimit
from automl_nas.run.driver import Driver
from automl_nas.run.estimate.stage_clock import StageClock, StageTimes
from automl_nas.run.gc_tuning import GcTuner
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Notifications, run_info
from automl_nas.run.rank_check import check_shared
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.stages import stage_artifacts
from automl_nas.run.trials.services import StageServices
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SupernetSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.base import Strategy
from automl_nas.strategy.feasible_sampler import FeasibleSampler
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal
from automl_nas.streams import stream, stream_seed

ITERATIONS = "iterations_per_step"
"""The setting by which strategies that train name the iterations of a step; it is lowered if a strategy has it."""

_ATTEMPTS = 1000
_NEVER = 1e9
_LEAST = 1e-9


@dataclass(frozen=True)
class Shortening:
    """Where each stage ends.

    Attributes:
        steps: maximum number of steps of a strategy; None: no maximum.
        seconds: time after which a stage begins no further step, once its speed is known; see `StageClock.suffices`.
            None: no limit.
        iterations_per_step: maximum number of training iterations in a step.
        training: where each training of the final stage ends.
        seeds: maximum number of repetitions in the final stage; None: all of them.
        trials: maximum number of trials of a stage; None: no maximum.
        scored_batches: number of batches that networks really compute when they are scored; None: all.
        stand_ins: number of architectures, the one that the strategy expects and random ones, of which the one with the
            smallest network is evaluated if the search proposes none. 1 for estimates, which need an ordinary one.
    """

    steps: int | None
    seconds: float | None
    iterations_per_step: int
    training: TrainingLimit
    seeds: int | None = None
    trials: int | None = None
    scored_batches: int | None = None
    stand_ins: int = 1

    def apply(self, plan: Plan) -> Plan:
        """Return the plan of the short run: evaluations in this process, no observers, no limits on metrics."""
        return replace(
            plan,
            components=_copies(plan.components),
            runtime=plan.runtime if self.scored_batches is None else plan.runtime.sparing(self.scored_batches),
            config={**plan.config, "executor": {"name": "in_process"}, "observers": [], "checkpoint_seconds": _NEVER},
            stages=tuple(self._stage(plan, stage) for stage in plan.stages),
            final=None if plan.final is None else self._final(plan.final),
        )

    def _stage(self, plan: Plan, stage: StagePlan) -> StagePlan:
        settings, evaluation = stage.settings, shortened_evaluation(plan, stage)
        if evaluation is not None:
            settings = replace(settings, evaluator={**settings.evaluator, **evaluation.settings})
        budget = replace(
            settings.budget,
            steps=_least(self.steps, settings.budget.steps),
            trials=_least(self.trials, settings.budget.trials),
            seconds=self.seconds,
        )
        strategy = dict(settings.strategy)
        if ITERATIONS in strategy:
            strategy[ITERATIONS] = min(self.iterations_per_step, strategy[ITERATIONS])
        # Networks that were trained for a few iterations cannot meet limits on metrics.
        problem = stage.problem
        limits = [limit for limit in problem.constraints if limit.metric in problem.cost_models]
        return replace(
            stage,
            settings=replace(settings, budget=budget, strategy=strategy, timeout=None),
            problem=Problem(problem.objectives, limits, problem.cost_models, problem.exclusions),
        )

    def _final(self, final: FinalPlan) -> FinalPlan:
        settings = final.settings
        return replace(
            final,
            settings=replace(
                settings,
                iterations_per_step=min(self.iterations_per_step, settings.iterations_per_step),
                seeds=min(settings.seeds, self.seeds or settings.seeds),
            ),
            limit=self.training,
        )


@dataclass(frozen=True)
class ShortRun:
    """What a short run showed.

    Attributes:
        times: of the stages in order, with the final stage.
        result: the content of its ``result.json``.
    """

    times: tuple[StageTimes, ...]
    result: Mapping[str, Any]

    def refuse_failed_exports(self) -> None:
        """Check that the delivered network was exported in every format.

        Raises:
            RunFailedError: a format failed; names all that did.
        """
        if failures := (self.result["final"] or {}).get("not_exported"):
            raise RunFailedError(
                "the network of a short run cannot be exported: "
                + "; ".join(f"{failure['format']}: {failure['error']}" for failure in failures)
            )


def short_run(
    plan: Plan,
    shortening: Shortening,
    *,
    handlers: Handlers | None = None,
    prepare: Callable[[RunDirectory, Plan], None] | None = None,
    stop: StopFlag | None = None,
    folder: Path | None = None,
) -> ShortRun:
    """Do a short run in a temporary directory, which is removed. Under torchrun all ranks do it together.

    A later stage needs what an earlier one would have ended with. If the earlier one ended too soon, it gets stand-ins:
    the fresh weights of a supernet, and a random feasible architecture that is evaluated as a trial.

    Args:
        plan: of the whole run.
        shortening: where each stage ends.
        handlers: kind of event -> function.
        prepare: called with the run directory and the plan of the short run before the first stage, by rank 0.
        stop: whether to stop; None: only a signal stops the short run.
        folder: in which the directory is created; None: that of the system for temporary files.

    Raises:
        AutoMLNASError: a stage failed, as it would in the whole run.
        ConfigurationError: not all ranks see the directory.
        RunInterrupted: a signal, or what ``stop`` waits for, ended the short run.
    """
    short = shortening.apply(plan)
    clock, ranks = StageClock(), plan.runtime.ranks
    with _temporary_directory(ranks, folder) as path:
        if ranks.size > 1:
            check_shared(ranks, path, "set the environment variable TMPDIR to a folder")
        run = path / "run"
        directory = ranks.lead(lambda: RunDirectory.create(run, short.config, plan.identity)) or RunDirectory(run)
        try:
            notifications = Notifications(run_info(directory.path, short, resumed=False), strict=False)
            notifications.subscribe("clock", clock.handlers)
            if handlers:
                notifications.subscribe("handlers", handlers)
            stop = stop or StopFlag()
            with stop.listening(_ignore, ranks), short.runtime.seeded(short.seed, "short run"):
                short.runtime.activate()
                if prepare is not None:
                    ranks.lead(functools.partial(prepare, directory, short))
                stages = len(short.stages) + (short.final is not None)
                record = RunRecord(directory, short.digest, _ignore, stages=stages, resumed=False, ranks=ranks)
                with component_errors(short.components.registry):
                    result = ShortDriver(short, record, notifications, stop, clock, shortening.stand_ins).drive()
        except (KeyboardInterrupt, RunInterrupted) as error:
            raise RunInterrupted("interrupted; nothing was written") from error
        finally:
            directory.unlock()
    return ShortRun(tuple(clock.stages), result)


class ShortDriver(Driver):
    """The driver of a short run: it gives stages that end too soon the results that later stages need.

    Args:
        plan: of the short run.
        record: of the run.
        notifications: receive the events.
        stop: whether to stop at the next safe point.
        clock: is stopped at the end of each stage.
        stand_ins: see `Shortening`.
    """

    def __init__(
        self,
        plan: Plan,
        record: RunRecord,
        notifications: Notifications,
        stop: StopFlag,
        clock: StageClock,
        stand_ins: int = 1,
    ) -> None:
        super().__init__(plan, record, notifications, stop)
        self._clock, self._stand_ins = clock, stand_ins

    def _services(self, index: int) -> StageServices:
        services = super()._services(index)
        services.time_ends = self._clock.suffices
        return services

    def _run_stage(self, index: int, gc_tuner: GcTuner) -> tuple[Strategy, int]:
        strategy, number = super()._run_stage(index, gc_tuner)
        self._clock.stop()
        stage = self._stages[index].plan
        if stage.path == "final":
            return strategy, number
        self._refuse_failures(stage.settings.name)
        self._ranks.lead(lambda: add_weights(self._record.directory, self._plan, stage))
        name = stage.settings.name
        trials = [trial for trial in self._record.ledger.trials.values() if trial.stage == name]
        unprepared = isinstance(strategy, AskTellStrategy) and not trials
        if unprepared or (name == self._plan.result_stage.settings.name and not stage.problem.comparable(trials)):
            begun = time.perf_counter()
            number = self._add_trial(index, number, strategy)
            if unprepared:
                self._clock.count_trial(time.perf_counter() - begun)
        return strategy, number

    def _refuse_failures(self, name: str) -> None:
        trials = [trial for trial in self._record.ledger.trials.values() if trial.stage == name]
        if trials and all(trial.state is State.FAILED for trial in trials):
            raise RunFailedError(
                f"all {len(trials)} evaluations of the stage '{name}' failed, the last one with: {trials[-1].error}"
            )

    def _add_trial(self, index: int, number: int, strategy: Strategy) -> int:
        """Evaluate the architecture that a strategy expects, or a random one; return the number of the next trial."""
        stage = self._stages[index].plan
        expected = strategy.expected(stream_seed(self._plan.seed, "stand-in"))
        candidates = [] if expected is None or not stage.problem.feasible(expected) else [expected]
        rng = stream(self._plan.seed, "stand-in")
        sampler = FeasibleSampler(self._plan.space, stage.problem, _ATTEMPTS)
        candidates += [sampler.sample(rng) for _ in range(self._stand_ins - len(candidates))]
        chosen = candidates[0] if len(candidates) == 1 else min(candidates, key=self._size)
        services = self._services(index)
        try:
            services.begin({"next_number": number})
            services.evaluate([Proposal(chosen)])
            services.settle()
        finally:
            services.close()
        self._refuse_failures(stage.settings.name)
        return services.next_number

    def _size(self, architecture: Architecture) -> tuple[int, int]:
        """Return the numbers of modules and parameters of a network: tracing takes longer with each module."""
        with self._plan.runtime.seeded(self._plan.seed, "stand-in"):
            network = self._plan.space.build(architecture)
        return sum(1 for _ in network.modules()), sum(parameter.numel() for parameter in network.parameters())


def add_weights(directory: RunDirectory, plan: Plan, stage: StagePlan) -> None:
    """Save fresh weights of the supernet as the artifact of a stage, unless it has saved weights.

    A stage with an evaluator saves none, unless its evaluator reads the weights of this stage.
    """
    name, evaluator = stage.settings.name, stage.settings.evaluator
    artifact = directory.artifacts / name / "weights.safetensors"
    reads_own = evaluator is not None and str(evaluator.get("weights", "")).partition("/")[0] == name
    if artifact.exists() or not isinstance(plan.space, SupernetSpace) or not (evaluator is None or reads_own):
        return
    with plan.runtime.seeded(stream_seed(plan.seed, stage.settings.name), "stand-in"):
        supernet = plan.space.build_supernet()
    stage_artifacts(plan, stage, directory).save(supernet.state_dict())


def shortened_evaluation(plan: Plan, stage: StagePlan) -> Shortened | None:
    """Return the least work that an evaluation of a stage can be; None: a whole evaluation."""
    if stage.settings.evaluator is None:
        return None
    name = stage.settings.evaluator["name"]
    evaluator = plan.components.class_of("evaluators", name, f"{stage.path}.evaluator")
    if not isinstance(evaluator, type) or not issubclass(evaluator, Evaluator):
        return None
    return evaluator.shortened(stage.settings.evaluator, _LEAST)


def _copies(components: Components) -> Components:
    """Return components whose constructed strategies, evaluators and pruners are copies: a run begins with new ones.

    Raises:
        ConfigurationError: one of them cannot be copied.
    """
    objects = dict(components.objects)
    for name, value in objects.items():
        if any(is_constructed(value, kind) for kind in ("strategies", "evaluators", "pruners")):
            try:
                objects[name] = copy.deepcopy(value)
            except Exception as error:
                raise ConfigurationError(
                    f"the first steps of a run are done with a copy of {name.removeprefix(PYTHON)}, and it cannot be "
                    f"copied: {one_line(error)}; pass the class and its settings instead of an object"
                ) from error
    return Components(components.registry, objects)


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _ignore(*_: object) -> None:
    """Do nothing."""


@contextlib.contextmanager
def _temporary_directory(ranks: Ranks, folder: Path | None) -> Iterator[Path]:
    """Yield a directory of all ranks, which rank 0 creates and removes."""
    with contextlib.ExitStack() as stack:
        created = ranks.lead(
            lambda: stack.enter_context(tempfile.TemporaryDirectory(prefix="automl_nas-short-", dir=folder))
        )
        yield Path(ranks.agree(created or ""))
