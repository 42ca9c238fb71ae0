"""The driver: the loop that steps the strategies of a run and does budgets, checkpoints, events and interruption."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from automl_nas.errors import RunInterrupted
from automl_nas.evaluation.ranks import exchange_failed
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.error_text import one_line
from automl_nas.plugin.events import (
    ResultInfo,
    RunFinished,
    RunStarted,
    StageFinished,
    StageStarted,
    StepFinished,
    StepInfo,
)
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.final.candidates import no_feasible_network
from automl_nas.run.final.report import FinalReport
from automl_nas.run.gc_tuning import GcTuner, tuned_gc
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Notifications
from automl_nas.run.record.checkpoints import check_state
from automl_nas.run.record.run_record import RunRecord, UnusableCheckpointError
from automl_nas.run.results import make_result
from automl_nas.run.shortcomings import shortcomings
from automl_nas.run.stages import run_stages
from automl_nas.run.trials.dispatch import EvaluationDispatcher
from automl_nas.run.trials.failure_patterns import failure_pattern
from automl_nas.run.trials.services import StageServices
from automl_nas.run.trials.stage_executors import StageExecutors
from automl_nas.strategy.base import Strategy
from automl_nas.streams import stream_seed


class Driver:
    """Works on a run from its newest checkpoint to its result.

    Args:
        plan: the resolved configuration.
        record: of the run.
        notifications: receive the events.
        stop: whether to stop at the next safe point.
    """

    def __init__(self, plan: Plan, record: RunRecord, notifications: Notifications, stop: StopFlag) -> None:
        self._plan, self._record, self._notifications, self._stop = plan, record, notifications, stop
        self._ranks, self._stages = plan.runtime.ranks, run_stages(plan)

    def drive(self) -> dict[str, Any]:
        """Do the rest of the run; return the content of ``result.json``.

        Raises:
            RunInterrupted: the run was stopped at a safe point.
            RunFailedError: the run cannot reach a result.
        """
        record, notifications = self._record, self._notifications
        with closing(notifications), closing(record), tuned_gc() as gc_tuner:
            notifications.send(RunStarted(notifications.run))
            report = None
            count = len(self._stages)
            while (index := record.state["stage"]) < count:
                stage = self._stages[index]
                name = stage.plan.settings.name
                notifications.send(StageStarted(name, index, count))
                try:
                    strategy, next_number = self._run_stage(index, gc_tuner)
                except UnusableCheckpointError as error:
                    record.fall_back(error)
                    continue
                notifications.send(StageFinished(name))
                self._warn_of_failures(name)
                self._warn_of_no_best(stage.plan)
                report = stage.report(strategy)
                record.finish_stage(index, next_number, last=index + 1 == count)
            return self._finish(report)

    def _warn_of_failures(self, name: str) -> None:
        """Warn if the failed trials of a stage have options in common that its complete trials do not have."""
        trials = [trial for _, trial in sorted(self._record.ledger.trials.items()) if trial.stage == name]
        if pattern := failure_pattern(trials):
            self._notifications.warn(f"in the stage '{name}', {pattern}")

    def _warn_of_no_best(self, stage: StagePlan) -> None:
        """Warn if no trial of a stage can be compared. The stage of the result has a shortcoming instead."""
        name = stage.settings.name
        if name == self._plan.result_stage.settings.name:
            return
        trials = [trial for _, trial in sorted(self._record.ledger.trials.items()) if trial.stage == name]
        if trials and not stage.problem.comparable(trials):
            self._notifications.warn(no_feasible_network(name, trials))

    def _finish(self, report: FinalReport | None) -> dict[str, Any]:
        """Write and return the result.

        Args:
            report: of the last stage.
        """
        record, notifications = self._record, self._notifications
        trials = record.ledger.trials
        result = self._ranks.agree(make_result(self._plan, record.ledger, report))
        record.finish(result)
        for shortcoming in shortcomings(record.directory.path, result):
            notifications.warn(shortcoming.message)
        if report is not None:
            for delivered in report.deliveries:
                which = f"network {delivered.network}" if report.others else "the delivered network"
                for warning in report.networks[delivered.network].warnings:
                    notifications.warn(f"{which} on the test split: {warning}")
        pareto = tuple(trials[item["number"]] for item in result["stages"][-1]["pareto"])
        info = ResultInfo(pareto[0] if pareto else None, pareto, len(trials), result)
        notifications.send(RunFinished(notifications.run, info))
        return result

    def _run_stage(self, index: int, gc_tuner: GcTuner) -> tuple[Strategy, int]:
        """Do the rest of a stage; return its strategy and the number of the next trial."""
        stage = self._stages[index]
        settings, components = stage.plan.settings, self._plan.components
        strategy = components.describe("strategies", settings.strategy["name"]) if stage.plan.path != "final" else ""
        path = f"{stage.plan.path}.strategy" if strategy else "final"
        with component_errors(components.registry, strategy, stage=settings.name, path=path):
            return self._step_stage(index, gc_tuner)

    def _step_stage(self, index: int, gc_tuner: GcTuner) -> tuple[Strategy, int]:
        stage, record, notifications = self._stages[index], self._record, self._notifications
        settings, state = stage.plan.settings, record.state
        services = self._services(index)
        steps, state_checked = state.get("steps", 0), False
        try:
            strategy: Strategy = stage.make_strategy(record.ledger, record.directory)
            services.planned = strategy.planned
            if state.get("strategy") is not None:
                self._load(state, strategy, services)
            services.begin(state)
            saved = time.monotonic()
            budget = settings.budget
            while not strategy.done:
                # When trials or time are spent nothing new is evaluated, but outstanding trials are waited for.
                spent = services.remaining == 0 and not services.outstanding
                if spent or (budget.steps is not None and steps >= budget.steps):
                    break
                self._stop.consult()
                if self._stop.requested:
                    self._checkpoint(index, steps, strategy, services)
                    raise RunInterrupted
                strategy.step(services)
                if not state_checked:  # not at the first checkpoint, which may be a minute of work later
                    check_state(strategy.state_dict(), f"the strategy of the stage '{settings.name}'")
                    state_checked = True
                steps += 1
                if notifications.has_subscriber(StepFinished):
                    info = StepInfo(settings.name, steps, services.submitted)
                    notifications.send(StepFinished(notifications.run, info))
                gc_tuner.update(len(record.ledger.trials))
                if time.monotonic() - saved >= self._plan.config["checkpoint_seconds"]:
                    self._checkpoint(index, steps, strategy, services)
                    saved = time.monotonic()
            services.settle()
            return strategy, services.next_number
        finally:
            services.close()

    def _load(self, state: Mapping[str, Any], strategy: Strategy, services: StageServices) -> None:
        """Load the state of a stage.

        Raises:
            UnusableCheckpointError: the state cannot be loaded, in one rank at least.
        """
        problem, cause = "", None
        try:
            services.check(state)
            strategy.load_state_dict(state["strategy"])
        except Exception as error:  # a component's, for a state that is not its own
            if exchange_failed(error):
                raise
            problem, cause = one_line(error), error
        if problems := list(filter(None, self._ranks.gather(problem))):
            raise UnusableCheckpointError(problems[0]) from cause

    def _services(self, index: int) -> StageServices:
        stage, record = self._stages[index].plan, self._record
        seed = stream_seed(self._plan.seed, stage.settings.name)
        dispatcher = None
        if stage.settings.evaluator is not None:
            executors = StageExecutors(self._plan, index, record)
            dispatcher = EvaluationDispatcher(executors, seed, record, self._notifications, self._stop)
        return StageServices(stage, self._plan.space, seed, dispatcher, record, self._notifications, self._ranks)

    def _checkpoint(self, index: int, steps: int, strategy: Strategy, services: StageServices) -> None:
        self._record.save_measurements(self._plan.measurements())
        self._record.save_checkpoint(index, steps, strategy.state_dict(), services.state())
