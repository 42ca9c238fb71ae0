"""The observer that has a run mirrored."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import Observer
from automl_nas.space import SearchSpace
from automl_nas_optuna.run_description import RunDescription
from automl_nas_optuna.samplers import require_optuna
from automl_nas_optuna.storages import close, open_storage

if TYPE_CHECKING:
    from automl_nas.plugin import RunInfo

_log = logging.getLogger(__name__)


@final
class MirrorObserver(Observer):
    """Copies finished trials into an Optuna storage, in a process of its own that reads the run's record.

    So the search waits for nothing, loses nothing when the storage is down, and the copy is complete again when the
    storage is back or the run is resumed. Each stage has a study, called ``study/stage``; parameters are decisions,
    named as `automl_nas_optuna.suggest` names them.

    Args:
        space: what is searched.
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file; ``${NAME}`` is filled in from
            the environment.
        study: the first part of the studies' names; null: the name of the run directory.
        patience: seconds that the end of the run waits for the copy to be complete.
    """

    def __init__(self, space: SearchSpace, *, storage: str, study: str | None = None, patience: float = 30.0) -> None:
        if patience < 0:
            raise ConfigurationError(f"must not be negative, but is {patience}", path="patience")
        if study is not None and not study.strip():
            raise ConfigurationError("a study needs a name", path="study")
        require_optuna()
        self._space, self._storage, self._study, self._patience = space, storage, study, patience
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def check(self, run: RunInfo) -> None:
        """Refuse a run whose storage cannot be reached, or holds such a study already.

        Raises:
            ConfigurationError: with the setting that is wrong.
            StorageError: it cannot be reached.
        """
        import optuna

        storage = open_storage(self._storage)
        try:
            there = set(optuna.get_all_study_names(storage))
        finally:
            close(storage)
        for stage in run.objectives:
            if (name := f"{self._study or run.name}/{stage}") in there:
                raise ConfigurationError(
                    f"a study called '{name}' is already there, and it is not this run's; choose another study, or "
                    "delete it",
                    path="study",
                )

    def search_started(self, run: RunInfo) -> None:
        """Start the process that mirrors the run."""
        self._directory = run.directory
        RunDescription.of(run.directory, run.objectives, self._space)
        command = [sys.executable, "-m", "automl_nas_optuna.mirror_process"]
        told = [str(run.directory), self._storage, self._study or run.name, str(self._patience)]
        self._process = subprocess.Popen(
            [*command, *told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=_pass_on, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Let the process finish what is recorded, for `patience` seconds."""
        if self._process is None or self._process.stdin is None or self._listener is None:
            return
        self._process.stdin.close()
        try:
            # It ends by itself; importing Optuna and one hanging connection may take longer than its patience.
            self._process.wait(self._patience + _GRACE)
        except subprocess.TimeoutExpired:
            _log.warning(
                "the mirror of the run did not end in time; to catch up: automl-nas mirror %s STORAGE",
                self._directory,
            )
        finally:
            self._process.kill()
            self._process.wait()
            self._listener.join()
            self._process = None


_GRACE = 5.0


def _pass_on(lines: IO[str]) -> None:
    with lines:
        for line in lines:
            _log.warning("%s", json.loads(line))
