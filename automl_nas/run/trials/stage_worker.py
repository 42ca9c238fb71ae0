"""`StageWorker`: evaluates serialized requests in a process that may run on another machine than the run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from automl_nas.evaluation.evaluator import Outcome
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import evaluate_alone
from automl_nas.run.trials.portable import read_request


@final
class StageWorker:
    """The evaluator of one stage on this machine. Constructing it may take long: it may read a data set.

    Args:
        description: the return value of `StageEvaluator.portable` in the process of the run.
        runtime: the section ``runtime`` of this machine; see `WorkerRuntime.settings`.
        directory: the path of the run directory on this machine; None: the same path as on the run's machine.
        worker: of this process, to be recorded with each trial; see `describe_worker`.

    Raises:
        ConfigurationError: spaces, data or plugins are not those of the run's process.
    """

    def __init__(
        self,
        description: Mapping[str, Any],
        runtime: Mapping[str, Any],
        directory: Path | None,
        worker: Mapping[str, Any],
    ) -> None:
        self._directory, self._worker = directory or Path(description["directory"]), worker
        config = {**description["config"], "runtime": runtime}
        self._evaluator = StageEvaluator.read({**description, "config": config}, self._directory)()

    def evaluate(self, data: Mapping[str, Any], *, in_worker: bool = False) -> Outcome:
        """Evaluate one request; an exception becomes a FAILED outcome.

        Intermediate files are kept in the run directory if this machine has it, and otherwise in a temporary folder.

        Args:
            data: the return value of `serialize_request`.
            in_worker: see `evaluate_alone`.

        Raises:
            EvaluationError: the evaluator breaks its contract.
        """
        scratch, own = self._directory / "scratch" / str(data["number"]), None
        if not self._directory.is_dir():
            scratch = own = Path(tempfile.mkdtemp(prefix="automl_nas-"))
        try:
            outcome = evaluate_alone(self._evaluator, read_request(data, scratch), in_worker=in_worker)
            return replace(outcome, worker=self._worker)
        finally:
            if own is not None:
                shutil.rmtree(own, ignore_errors=True)
