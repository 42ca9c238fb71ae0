"""The executors of a stage."""

from __future__ import annotations

from typing import final

from automl_nas.errors import ConfigurationError
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.trials.evaluator_factory import StageEvaluator, data_parallel
from automl_nas.run.trials.executor import Executor
from automl_nas.run.trials.rank_executor import RankExecutor, Way
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
        """Return the configured executor, opened; under torchrun, one that evaluates with all ranks by it.

        Raises:
            ConfigurationError: under torchrun, the executor or its workers cannot be used.
        """
        spec = self._plan.config["executor"]
        executor: Executor = self._plan.components.construct(
            "executors", spec, [], stream_seed(self._plan.seed, "executor"), "executor"
        )
        return self._open(executor, "together" if data_parallel(self._plan, self._stage) else "spread")

    def open_isolated(self) -> Executor:
        """Return an executor with one worker process: it survives a candidate that kills its process.

        Raises:
            ConfigurationError: all ranks do each evaluation together.
        """
        if self._plan.runtime.world_size > 1 and data_parallel(self._plan, self._stage):
            raise ConfigurationError("all ranks evaluate it together")
        return self._open(WorkerProcesses(workers=1), "lead")

    def _open(self, executor: Executor, way: Way) -> Executor:
        ranks = self._plan.runtime.ranks
        opened = executor if ranks.size == 1 else RankExecutor(executor, ranks, way)
        evaluator = StageEvaluator(self._plan, self._record.directory.path, self._stage)
        opened.open(evaluator, self._record.ledger.started, self._plan.stages[self._stage].settings.timeout)
        return opened
