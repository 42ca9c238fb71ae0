"""The observer that mirrors a run while it is going on."""

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
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.optuna_version import require_optuna
from automl_nas_optuna.storages import close, open_storage, refuse_password

if TYPE_CHECKING:
    from automl_nas.plugin import RunInfo

_log = logging.getLogger(__name__)

EXIT_SECONDS = 5.0
"""How much longer than ``patience`` the end of a run waits for the mirror process, before it kills the process."""


@final
class MirrorObserver(Observer):
    """Copies finished trials into an Optuna storage.

    A separate process reads the run's ledger and writes to the storage. The search does not wait for it, and loses
    nothing when the storage is down: the copy becomes complete when the storage is back or the run is resumed. Each
    stage has a study, named ``study/stage``. Its parameters are the decisions, named as `automl_nas_optuna.suggest`
    names them.

    Args:
        space: the search space.
        storage: a URL of SQLAlchemy, ``grpc://host:port``, or the path of a journal file; ``${NAME}`` is replaced by
            the environment variable.
        study: the first part of the studies' names; null: the name of the run directory.
        patience: seconds that the end of the run waits until all trials are copied.
    """

    def __init__(self, space: SearchSpace, *, storage: str, study: str | None = None, patience: float = 30.0) -> None:
        if patience < 0:
            raise ConfigurationError(f"must not be negative, got {patience}", path="patience")
        if study is not None and not study.strip():
            raise ConfigurationError("the name of a study must not be empty", path="study")
        refuse_password(storage)
        require_optuna()
        self._space, self._storage, self._study, self._patience = space, storage, study, patience
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None

    def check(self, run: RunInfo) -> None:
        """Check that the storage can be reached and that no study in it has the name of a new one.

        Raises:
            ConfigurationError: with the path of the setting.
            StorageError: the storage cannot be reached.
        """
        import optuna

        storage = open_storage(self._storage)
        try:
            existing = set(optuna.get_all_study_names(storage))
        finally:
            close(storage)
        for stage in run.objectives:
            if (name := f"{self._study or run.name}/{stage}") in existing:
                raise ConfigurationError(
                    f"a study called '{name}' is already there and does not belong to this run; choose another study, "
                    "or delete it",
                    path="study",
                )

    def search_started(self, run: RunInfo) -> None:
        """Start the process that mirrors the run."""
        self._directory = run.directory
        RunDescription.of(run.directory, run.objectives, self._space)
        command = [sys.executable, "-m", "automl_nas_optuna.mirror.process"]
        arguments = [str(run.directory), self._storage, self._study or run.name, str(self._patience)]
        self._process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=_log_messages, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Wait at most `patience` seconds until the process has copied all recorded trials."""
        if self._process is None or self._process.stdin is None or self._listener is None:
            return
        self._process.stdin.close()
        try:
            # The process ends by itself. Importing Optuna, or one hanging connection, may take longer than `patience`.
            self._process.wait(self._patience + EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            _log.warning(
                "the mirror process did not end in time; to copy the remaining trials: automl-nas mirror %s STORAGE",
                self._directory,
            )
        finally:
            self._process.kill()
            self._process.wait()
            self._listener.join()
            self._process = None


def _log_messages(lines: IO[str]) -> None:
    with lines:
        for line in lines:
            _log.warning("%s", json.loads(line))
