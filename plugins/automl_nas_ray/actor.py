"""`EvaluationActor`: the process of Ray that evaluates candidates."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, final

from automl_nas.errors import AutoMLNASError, ConfigurationError
from automl_nas.run import StageWorker, WorkerRuntime, describe_worker, serialize_outcome


@final
class EvaluationActor:
    """Evaluates the requests of one stage, one at a time.

    Only strings of JSON cross between the run and this process: Ray pickles the strings, and the name of this class.
    """

    def __init__(self) -> None:
        self._stage: StageWorker | None = None
        # The process of the run has already logged what there is to say of plugins.
        logging.getLogger("automl_nas").addHandler(logging.NullHandler())

    def prepare(self, text: str) -> str:
        """Construct the evaluator.

        Args:
            text: ``description`` (of `StageEvaluator.portable`), ``device``, ``threads``, and ``directory``: the path
                of the run directory on this machine, or null.

        Returns:
            ``worker`` (of `describe_worker`) and ``node``, Ray's identifier of the node; or see `_failure`.
        """
        import ray

        settings = json.loads(text)
        description, directory = settings["description"], settings["directory"]
        try:
            runtime = WorkerRuntime(settings["device"], settings["threads"]).settings(description)
            worker = describe_worker(runtime["device"])
            self._stage = StageWorker(description, runtime, None if directory is None else Path(directory), worker)
        except Exception as error:
            return _failure(error)
        return json.dumps({"worker": worker, "node": ray.get_runtime_context().get_node_id()})

    def ping(self) -> None:
        """Answer."""

    def evaluate(self, text: str) -> str:
        """Evaluate a serialized request; return ``outcome``, serialized, or see `_failure`."""
        assert self._stage is not None
        try:
            outcome = self._stage.evaluate(json.loads(text), in_worker=True)
            return json.dumps({"outcome": serialize_outcome(outcome)})
        except Exception as error:
            return _failure(error)


def _failure(error: Exception) -> str:
    """Return an error as JSON: ``error``, its message, and ``user``, whether the user's files or machine are wrong."""
    message: Any = str(error) if isinstance(error, AutoMLNASError) else f"{type(error).__name__}: {error}"
    return json.dumps({"error": message, "user": isinstance(error, ConfigurationError)})
