"""The observer ``tensorboard``."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import RunInfo
from automl_nas.run import RunDirectory, logged_numbers, recorded_after
from automl_nas_report.periodic import RecordFollower

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_NOT_DRAWN = frozenset({"stage", "step", "network"})


@final
class TensorBoardObserver(RecordFollower):
    """Writes trials and logged numbers for TensorBoard: ``tensorboard --logdir RUN/tensorboard``.

    Scalars are ``STAGE/NAME`` over the step for logged numbers, with the number of the network in between if a stage
    trains several (``final/network 0/loss``), and ``STAGE/trials/NAME`` over the number of the trial for metrics and
    costs. When a run is resumed, the files of the earlier process are replaced by what the record has. Needs the
    package tensorboard: ``pip install "automl-nas[tensorboard]"``.

    Args:
        folder: for the event files, of this run only; None: ``tensorboard`` in the run directory.
        every: seconds between two copies; the last one is made when the run ends or is interrupted.
    """

    def __init__(self, *, folder: str | None = None, every: float = 10.0) -> None:
        super().__init__(folder, every, "tensorboard")
        self._writer: SummaryWriter | None = None
        self._offset = self._lines = 0

    def check(self, run: RunInfo) -> None:
        """Check that the package is installed, and the folder; see `RecordFollower.check`.

        Raises:
            ConfigurationError: the package is not installed, or the folder has files.
        """
        _check_installed()
        super().check(run)

    def begin(self, run: Path, resumed: bool) -> None:
        """Remove the event files of an earlier process: the record may have been cut to a checkpoint since."""
        _check_installed()
        self._restart()

    def follow(self, run: Path) -> None:
        """See `RecordFollower.follow`."""
        directory = RunDirectory(run)
        lines = [line for line in logged_numbers(directory.metrics) if isinstance(line, dict)]
        if len(lines) < self._lines:  # the run fell back to an earlier checkpoint
            self._restart()
        writer = self._writer
        assert writer is not None
        for line in lines[self._lines :]:
            group = f"{line['stage']}/network {line['network']:g}" if "network" in line else line["stage"]
            for name, value in line.items():
                if name not in _NOT_DRAWN and isinstance(value, int | float):
                    writer.add_scalar(f"{group}/{name}", value, line["step"])
        self._lines = len(lines)
        trials, self._offset = recorded_after(directory.trials, self._offset)
        for trial, at in trials:
            for name, value in (*trial.metrics.items(), *trial.costs.items()):
                if math.isfinite(value):
                    writer.add_scalar(f"{trial.stage}/trials/{name}", value, trial.number, walltime=at)
        writer.flush()

    def close(self) -> None:
        """Write the rest, and close the file."""
        super().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _restart(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._writer.close()
        for path in self.folder.glob("events.out.tfevents.*"):
            path.unlink()
        self._writer = SummaryWriter(str(self.folder))
        self._offset = self._lines = 0


def _check_installed() -> None:
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigurationError(
            'the observer tensorboard needs the package tensorboard, which is not installed: pip install "automl-nas'
            '[tensorboard]"; or use the observer csv'
        )
