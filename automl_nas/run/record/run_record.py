"""The record of a run, opened for writing by the one process that works on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

from automl_nas._version import __version__
from automl_nas.run.record.checkpoints import Checkpoints
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.metrics_file import MetricsFile


@final
class RunRecord:
    """Ledger, metrics and checkpoints of a run; metrics are cut back to the newest usable checkpoint.

    Args:
        directory: of the run, locked.
        digest: of the resolved configuration.
        warn: called with a line for each damage.
        resumed: whether an earlier process began the run.

    Attributes:
        directory: as given.
        ledger: the trials.
        metrics: the logged numbers.
        state: the newest usable checkpoint, or the start of the first stage.
        changed_packages: differences to the environment that the run was begun in.
    """

    def __init__(self, directory: RunDirectory, digest: str, warn: Callable[[str], object], *, resumed: bool) -> None:
        self.directory, self._digest, self._warn = directory, digest, warn
        self.changed_packages = directory.changed_packages() if resumed else []
        self._checkpoints = Checkpoints(directory.checkpoints)
        self.ledger = Ledger(directory.trials, writable=True)
        for damage in self.ledger.damage:
            warn(str(damage))
        self.state: Mapping[str, Any] = self._checkpoints.newest(warn, self._usable) or _start_of_stage(0, 0, 0)
        self.metrics = MetricsFile(directory.metrics, self.state["metrics"])

    def finish_stage(self, stage: int, next_number: int, *, last: bool) -> None:
        """Make the record of a stage durable; unless it is the last stage, write a checkpoint that is kept.

        Args:
            stage: position of the stage.
            next_number: the number of the next trial.
            last: whether no stage follows.
        """
        self.state = _start_of_stage(stage + 1, next_number, self.metrics.sync())
        self.ledger.sync()
        if not last:
            self._checkpoints.save({**self.state, "config": self._digest}, boundary=True)

    def save_checkpoint(self, stage: int, steps: int, strategy: Mapping[str, Any], services: Mapping[str, Any]) -> None:
        """Make the record durable and write a checkpoint that refers to it.

        Args:
            stage: position of the stage.
            steps: number of its steps.
            strategy: the state of its strategy.
            services: the state of its services.
        """
        self.ledger.sync()
        self._checkpoints.save(
            {
                "version": __version__,
                "config": self._digest,
                "stage": stage,
                "steps": steps,
                "metrics": self.metrics.sync(),
                "strategy": strategy,
                **services,
            }
        )

    def close(self) -> None:
        """Close the files."""
        self.ledger.close()
        self.metrics.close()

    def _usable(self, state: Mapping[str, Any]) -> bool:
        """Return whether configuration, trials and metrics that a checkpoint refers to are all in the record."""
        if state["config"] != self._digest:
            self._warn("a checkpoint belongs to another configuration and is not used")
            return False
        numbers = self.ledger.trials.keys() | {item["number"] for item in state.get("pending", ())}
        if not all(number in numbers for number in range(state["next_number"])):
            self._warn("a checkpoint refers to trials whose record is damaged; the previous good one is used")
            return False
        path = self.directory.metrics
        if state["metrics"] > (path.stat().st_size if path.exists() else 0):
            self._warn(f"{path} is shorter than a checkpoint says; the previous good one is used")
            return False
        return True


def _start_of_stage(stage: int, next_number: int, metrics: int) -> dict[str, Any]:
    """Return the state of a run before the first step of a stage."""
    return {"stage": stage, "next_number": next_number, "metrics": metrics}
