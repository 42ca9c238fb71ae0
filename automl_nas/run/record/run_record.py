"""The record of a run, opened for writing by the one process that works on it; under torchrun by rank 0.

The other ranks follow: their ledger has the same trials, since all ranks learn the same outcomes, and they write
nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, final

from automl_nas._version import __version__
from automl_nas.errors import AutoMLNASError, RunDirectoryError
from automl_nas.evaluation.ranks import SOLO, Ranks
from automl_nas.run.record.atomic_files import write_record
from automl_nas.run.record.checkpoints import Checkpoints
from automl_nas.run.record.contents import checkpoint
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.metrics_file import MetricsFile, UnwrittenMetrics
from automl_nas.run.record.shapes import problem_of


class UnusableCheckpointError(AutoMLNASError):
    """A stage cannot continue from a checkpoint; an earlier one is used. It never leaves the driver."""


@final
class RunRecord:
    """Ledger, metrics and checkpoints of a run; metrics are cut back to the newest usable checkpoint.

    Args:
        directory: of the run, locked.
        digest: of the resolved configuration.
        warn: called with a line for each damage.
        stages: the number of stages, with the final stage.
        resumed: whether an earlier process began the run.
        ranks: of the run; all of them open the record, rank 0 first.

    Attributes:
        directory: as given.
        ledger: the trials.
        metrics: the logged numbers.
        state: the newest usable checkpoint, or the start of the first stage.
        changed_packages: differences to the environment that the run was begun in.
    """

    def __init__(
        self,
        directory: RunDirectory,
        digest: str,
        warn: Callable[[str], object],
        *,
        stages: int,
        resumed: bool,
        ranks: Ranks = SOLO,
    ) -> None:
        self.directory, self._digest, self._warn, self._shape = directory, digest, warn, checkpoint(stages)
        self.changed_packages = directory.changed_packages() if resumed else []
        self._ranks, self._writes = ranks, ranks.rank == 0
        self._checkpoints = Checkpoints(directory.checkpoints, writable=self._writes)
        self.ledger = ranks.in_turn(lambda: Ledger(directory.trials, writable=self._writes, follows=not self._writes))
        for damage in self.ledger.damage:
            warn(str(damage))
        self._usable = self._usable_checkpoints()
        self._file, self.state = self._next_usable()
        self.metrics = self._open_metrics()

    def fall_back(self, reason: UnusableCheckpointError) -> None:
        """Continue from the next older usable checkpoint, or from the start of the first stage."""
        self._warn(f"checkpoint {self._file} cannot be used: {reason}; the previous good one is used")
        self._file, self.state = self._next_usable()
        self.metrics.close()
        self.metrics = self._open_metrics()

    def finish_stage(self, stage: int, next_number: int, *, last: bool) -> None:
        """Make the record of a stage durable; unless it is the last stage, write a checkpoint that is kept.

        Args:
            stage: position of the stage.
            next_number: the number of the next trial.
            last: whether no stage follows.
        """
        self.state = _start_of_stage(stage + 1, next_number, self.metrics.sync())
        self.ledger.sync()
        if not last and self._writes:
            self._checkpoints.save({**self.state, "config": self._digest}, boundary=True)

    def save_checkpoint(self, stage: int, steps: int, strategy: Mapping[str, Any], services: Mapping[str, Any]) -> None:
        """Make the record durable and write a checkpoint that refers to it.

        Args:
            stage: position of the stage.
            steps: number of its steps.
            strategy: the state of its strategy.
            services: the state of its services.
        """
        if not self._writes:
            return
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

    def save_measurements(self, measurements: Mapping[str, Any]) -> None:
        """Write what cost models measured, if they did."""
        if measurements and self._writes:
            write_record(self.directory.measured, measurements)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result of the run."""
        if self._writes:
            write_record(self.directory.result, result)
            shutil.rmtree(self.directory.scratch, ignore_errors=True)

    def close(self) -> None:
        """Close the files."""
        self.ledger.close()
        self.metrics.close()

    def _open_metrics(self) -> MetricsFile | UnwrittenMetrics:
        return MetricsFile(self.directory.metrics, self.state["metrics"]) if self._writes else UnwrittenMetrics()

    def _next_usable(self) -> tuple[Path | None, Mapping[str, Any]]:
        """Return the next state that this process can use; under torchrun, the one that rank 0 uses.

        Raises:
            RunDirectoryError: this rank cannot read the checkpoint of rank 0.
        """
        file, state = next(self._usable)
        name = self._ranks.agree(None if file is None else file.name)
        while (None if file is None else file.name) != name:
            if file is None:
                raise RunDirectoryError(
                    f"rank {self._ranks.rank} cannot read the checkpoint {name} of rank 0 in "
                    f"{self.directory.checkpoints}; all ranks need the run directory on a shared file system"
                )
            file, state = next(self._usable)
        self._ranks.gather(None)  # rank 0 removes checkpoints only after all have read theirs
        return file, state

    def _usable_checkpoints(self) -> Iterator[tuple[Path | None, Mapping[str, Any]]]:
        """Yield usable states, newest first, each with its file; the last one is the start of the run."""
        for path, state in self._checkpoints.newest_first(self._warn):
            if problem := self._problem(state):
                self._warn(f"checkpoint {path} {problem}; the previous good one is used")
            else:
                yield path, state
        yield None, _start_of_stage(0, 0, 0)

    def _problem(self, state: Any) -> str:
        """Return why a checkpoint cannot be used: what it refers to is not in the record; empty if it can be used."""
        if problem := problem_of(state, self._shape):
            return f"is not one of this run: {problem}"
        if state["config"] != self._digest:
            return "belongs to another configuration"
        recorded = self.ledger.trials.keys() | {item["number"] for item in state.get("pending", ())}
        missing = [number for number in range(state["next_number"]) if number not in recorded]
        missing += [number for number in state.get("uncollected", ()) if number not in recorded]
        if missing:
            return f"refers to trial {missing[0]}, whose record is damaged"
        path = self.directory.metrics
        if state["metrics"] > (path.stat().st_size if path.exists() else 0):
            return f"needs more of {path} than the file holds"
        return ""


def _start_of_stage(stage: int, next_number: int, metrics: int) -> dict[str, Any]:
    """Return the state of a run before the first step of a stage."""
    return {"stage": stage, "next_number": next_number, "metrics": metrics}


def begin_at_stage(directory: RunDirectory, digest: str, stage: int, next_number: int) -> None:
    """Write the checkpoint with which a new run begins that has a part of its record already.

    Args:
        directory: of the run; its ledger and metrics hold the earlier stages.
        digest: of the resolved configuration.
        stage: position of the first stage to work on.
        next_number: the number of its first trial.
    """
    metrics = directory.metrics.stat().st_size if directory.metrics.exists() else 0
    state = {**_start_of_stage(stage, next_number, metrics), "config": digest}
    Checkpoints(directory.checkpoints).save(state, boundary=True)
