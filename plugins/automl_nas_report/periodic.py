"""The base of observers that follow the record of a run."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from pathlib import Path

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import Observer, ResultInfo, RunInfo, StepInfo

_SHARE = 20
"""A copy that takes a second is made every 20 seconds at most: an observer must not slow the run down."""


class RecordFollower(Observer):
    """Calls `follow` from time to time, and at the end of the run or of this process's work on it.

    The record of the run is the truth: a subclass reads ``trials.jsonl`` and ``metrics.jsonl`` instead of collecting
    events, so an interruption and a resumption need no further care.

    Args:
        folder: for the files; None: a folder in the run directory.
        every: seconds between two copies.
        default: name of the folder in the run directory.

    Raises:
        ConfigurationError: ``every`` is not positive.
    """

    def __init__(self, folder: str | None, every: float, default: str) -> None:
        if not 0 < every < math.inf:
            raise ConfigurationError(f"must be positive and finite, not {every}", path="every")
        self._chosen, self._every, self._default = folder, every, default
        self._run: Path | None = None
        self._next = -math.inf

    @property
    def folder(self) -> Path:
        """The folder of the files, once the run has begun."""
        assert self._run is not None
        return self._run / self._default if self._chosen is None else Path(self._chosen)

    def check(self, run: RunInfo) -> None:
        """Check that a folder outside the run directory is empty: files of another run are never replaced.

        Raises:
            ConfigurationError: it is not empty, or is a file.
        """
        if self._chosen is None or not Path(self._chosen).exists():
            return
        if not Path(self._chosen).is_dir() or any(Path(self._chosen).iterdir()):
            reason = f"{self._chosen} is not an empty folder; each run needs a folder of its own"
            raise ConfigurationError(reason, path="folder")

    @abstractmethod
    def begin(self, run: Path, resumed: bool) -> None:
        """Prepare the folder, which exists."""

    @abstractmethod
    def follow(self, run: Path) -> None:
        """Bring the files up to date with the record in the run directory."""

    def search_started(self, run: RunInfo) -> None:
        """Create the folder."""
        self._run = run.directory
        self.folder.mkdir(parents=True, exist_ok=True)
        self.begin(run.directory, run.resumed)
        self._next = time.monotonic() + self._every

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        """Follow, if it is time."""
        if time.monotonic() >= self._next:
            self._follow()

    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        """Follow."""
        self._follow()

    def close(self) -> None:
        """Follow, also after a failure or an interruption."""
        if self._run is not None:
            self._follow()
            self._run = None

    def _follow(self) -> None:
        assert self._run is not None
        begun = time.monotonic()
        self.follow(self._run)
        now = time.monotonic()
        self._next = now + max(self._every, _SHARE * (now - begun))
