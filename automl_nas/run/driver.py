"""The one driver: it loops over the steps of stages and does budgets, checkpoints, hooks and interruption."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from typing import Any

import automl_nas
from automl_nas.errors import RunInterrupted
from automl_nas.plugin.events import ResultInfo, StepInfo
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.gc_tuning import heap_frozen
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Watchers, run_info
from automl_nas.run.record.atomic_files import write_json
from automl_nas.run.record.checkpoints import Checkpoints
from automl_nas.run.record.directory import MetricsFile, RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.reporter import Reporter
from automl_nas.run.results import make_result
from automl_nas.run.stages import run_stages
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import Executor
from automl_nas.run.trials.services import StageServices
from automl_nas.run.trials.worker_processes import WorkerProcesses
from automl_nas.strategy.base import Strategy
from automl_nas.strategy.trial import Trial
from automl_nas.streams import stream_seed


class Driver:
    """Works on a run from its newest checkpoint to its result.

    Args:
        directory: of the run, locked.
        plan: the run.
        watchers: are told.
        reporter: is told.
        stop: whether to stop at the next safe point.
        resumed: whether the run has been worked on before.
    """

    def __init__(
        self,
        directory: RunDirectory,
        plan: Plan,
        watchers: Watchers,
        reporter: Reporter,
        stop: StopFlag,
        *,
        resumed: bool,
    ) -> None:
        self._directory, self._plan, self._observers, self._reporter = directory, plan, watchers, reporter
        self._stop, self._digest = stop, plan.digest
        self._changes = directory.changed_packages() if resumed else []
        self._stages = run_stages(plan)
        self._info = run_info(directory.path, plan, resumed=resumed)
        self._checkpoints = Checkpoints(directory.checkpoints)
        self._ledger = Ledger(directory.trials, writable=True)
        for damage in self._ledger.damage:
            reporter.warning(str(damage))
        self._state = self._checkpoints.newest(reporter.warning, self._usable) or _start_of_stage(0, 0, 0)
        self._metrics = MetricsFile(directory.metrics, self._state["metrics"])

    def drive(self) -> dict[str, Any]:
        """Run what is left of the run; return what ``result.json`` holds.

        Raises:
            RunInterrupted: stopped at a safe point.
            RunFailedError: no result can be reached.
        """
        with heap_frozen() as self._heap:
            return self._drive()

    def _drive(self) -> dict[str, Any]:
        plan, directory, reporter = self._plan, self._directory, self._reporter
        ledger, state = self._ledger, self._state
        self._observers.search_started(self._info)
        report = None
        try:
            count = len(self._stages)
            for index in range(state["stage"], count):
                stage = self._stages[index]
                name = stage.plan.settings.name
                reporter.stage_started(name, index, count)
                strategy, services = self._run_stage(index, state)
                reporter.stage_finished(name)
                report = stage.report(strategy)
                state = _start_of_stage(index + 1, services.next_number, self._metrics.sync())
                ledger.sync()
                if index + 1 < count:
                    self._checkpoints.save({**state, "config": self._digest}, boundary=True)
            result = make_result(plan, ledger, report)
            write_json(directory.result, result)
            shutil.rmtree(directory.scratch, ignore_errors=True)
            pareto = tuple(ledger.trials[found["number"]] for found in result["stages"][-1]["pareto"])
            best = pareto[0] if pareto else None
            self._observers.search_finished(self._info, ResultInfo(best, pareto, len(ledger.trials), result))
            return result
        finally:
            ledger.close()
            self._metrics.close()
            self._observers.close()

    def _run_stage(self, index: int, state: Mapping[str, Any]) -> tuple[Strategy, StageServices]:
        plan = self._plan
        stage = self._stages[index].plan
        name = stage.settings.name
        seed = stream_seed(plan.seed, name)
        executor = self._executor(index, stage) if stage.settings.evaluator is not None else None

        def observe(trial: Trial) -> None:
            self._observers.trial_finished(self._info, trial)

        def isolated() -> Executor:
            made = WorkerProcesses(workers=1)
            made.open(StageEvaluator(plan, self._directory.path, index), self._ledger.started, stage.settings.timeout)
            return made

        services = StageServices(
            stage,
            plan.space,
            seed,
            self._directory,
            self._ledger,
            self._metrics,
            executor,
            isolated,
            self._stop,
            self._reporter,
            observe,
            self._changes,
        )
        steps = state.get("steps", 0)
        try:
            strategy: Strategy = self._stages[index].make_strategy(self._ledger, self._directory)
            services.planned = strategy.planned
            if state.get("strategy") is not None:
                strategy.load_state_dict(state["strategy"])
            services.begin(state)
            saved = time.monotonic()
            budget = stage.settings.budget
            while not strategy.done:
                # Out of time nothing new is evaluated, but what is outstanding is waited for.
                late = budget.seconds is not None and services.seconds >= budget.seconds and not services.outstanding
                if late or (budget.steps is not None and steps >= budget.steps):
                    break
                if self._stop.requested:
                    self._checkpoint(index, steps, strategy, services)
                    raise RunInterrupted
                strategy.step(services)
                steps += 1
                self._observers.step_finished(self._info, StepInfo(name, steps, services.recorded))
                self._heap.grown(len(self._ledger.trials))
                if time.monotonic() - saved >= plan.config["checkpoint_seconds"]:
                    self._checkpoint(index, steps, strategy, services)
                    saved = time.monotonic()
            services.settle()
            return strategy, services
        finally:
            services.close()

    def _executor(self, index: int, stage: StagePlan) -> Executor:
        executor: Executor = self._plan.components.construct(
            "executors", self._plan.config["executor"], [], stream_seed(self._plan.seed, "executor"), "executor"
        )
        executor.open(
            StageEvaluator(self._plan, self._directory.path, index), self._ledger.started, stage.settings.timeout
        )
        return executor

    def _checkpoint(self, index: int, steps: int, strategy: Strategy, services: StageServices) -> None:
        self._ledger.sync()
        if self._plan.measured:
            write_json(self._directory.measured, self._plan.measurements())
        self._checkpoints.save(
            {
                "version": automl_nas.__version__,
                "config": self._digest,
                "stage": index,
                "steps": steps,
                "metrics": self._metrics.sync(),
                "strategy": strategy.state_dict(),
                **services.state(),
            }
        )

    def _usable(self, state: Mapping[str, Any]) -> bool:
        """Whether everything a checkpoint builds on is there: its configuration, its trials, its lines of metrics."""
        if state["config"] != self._digest:
            self._reporter.warning("a checkpoint belongs to another configuration and is not used")
            return False
        known = self._ledger.trials.keys() | {item["number"] for item in state.get("pending", ())}
        if not all(number in known for number in range(state["next_number"])):
            self._reporter.warning(
                "a checkpoint builds on trials whose record is damaged; the previous good one is used"
            )
            return False
        length = self._directory.metrics.stat().st_size if self._directory.metrics.exists() else 0
        if state["metrics"] > length:
            self._reporter.warning(
                f"{self._directory.metrics} is shorter than a checkpoint says; the previous good one is used"
            )
            return False
        return True


def _start_of_stage(stage: int, next_number: int, metrics: int) -> dict[str, Any]:
    return {"stage": stage, "next_number": next_number, "metrics": metrics}
