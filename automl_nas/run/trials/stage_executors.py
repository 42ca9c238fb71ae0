"""The executors of a stage."""

from __future__ import annotations

from typing import final

from automl_nas.run.configuration.plan import Plan
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import Executor
from automl_nas.run.trials.worker_processes import WorkerProcesses
from automl_nas.streams import stream_seed


@final
class StageExecutors:
    """Opens executors with the evaluator of a stage.

    Args:
        plan: of the run.
        stage: position of the stage.
        record: of the run; each evaluation is recorded as started.
    """

    def __init__(self, plan: Plan, stage: int, record: RunRecord) -> None:
        self._plan, self._stage, self._record = plan, stage, record

    def open_configured(self) -> Executor:
        """Return the configured executor, opened."""
        executor: Executor = self._plan.components.construct(
            "executors", self._plan.config["executor"], [], stream_seed(self._plan.seed, "executor"), "executor"
        )
        return self._open(executor)

    def open_isolated(self) -> Executor:
        """Return an executor with one worker process: it survives a candidate that kills its process."""
        return self._open(WorkerProcesses(workers=1))

    def _open(self, executor: Executor) -> Executor:
        evaluator = StageEvaluator(self._plan, self._record.directory.path, self._stage)
        executor.open(evaluator, self._record.ledger.started, self._plan.stages[self._stage].settings.timeout)
        return executor
