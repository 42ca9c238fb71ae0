"""The observer that mirrors a run while it is going on."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, final

from automl_nas.errors import ConfigurationError, UserError
from automl_nas.plugin import Observer
from automl_nas.space import SearchSpace
from automl_nas_optuna.mirror.mirror import Mirror
from automl_nas_optuna.mirror.process import REFUSED, copy_rest
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.optuna_version import require_optuna
from automl_nas_optuna.storages import close, open_storage, refuse_password

if TYPE_CHECKING:
    from automl_nas.plugin import RunInfo

_log = logging.getLogger(__name__)

EXIT_SECONDS = 5.0
"""Seconds that the end of a run waits for the mirror process to finish the trial that it is copying."""

QUIET_SECONDS = 2.0
"""Seconds of copying at the end of a run after which the run prints that it copies."""


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

    def __init__(self, space: SearchSpace, *, storage: str, study: str | None = None, patience: float = 10.0) -> None:
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
        self._directory, self._name = run.directory, self._study or run.name
        RunDescription.of(run.directory, run.objectives, self._space)
        command = [sys.executable, "-m", "automl_nas_optuna.mirror.process"]
        arguments = [str(run.directory), self._storage, self._name, str(self._patience)]
        self._process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=_log_messages, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def close(self) -> None:
        """Copy the recorded trials that the process has not copied, for at most `patience` seconds.

        The process has a low priority, so on a busy machine this process is faster.
        """
        if self._process is None or self._process.stdin is None or self._listener is None:
            return
        # SIGTERM comes first: after its standard input is closed, the process would copy the rest itself.
        self._process.terminate()
        self._process.stdin.close()
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:  # a connection hangs
            self._process.kill()
            self._process.wait()
        self._listener.join()
        refused = self._process.returncode == REFUSED
        self._process = None
        if not refused:
            self._copy_rest()

    def _copy_rest(self) -> None:
        mirror = Mirror(self._directory, RunDescription.read(self._directory), self._storage, self._name)
        stop = threading.Event()
        left: list[int] = []

        def copy() -> None:
            try:
                left.append(copy_rest(mirror, self._patience, _log.warning, stop.is_set))
            except UserError as error:
                _log.warning("the run is not mirrored: %s", error)
                left.append(0)
            finally:
                mirror.close()

        # A daemon: a connection that hangs must not keep the run from ending.
        thread = threading.Thread(target=copy, name="mirror", daemon=True)
        thread.start()
        thread.join(min(QUIET_SECONDS, self._patience))
        if thread.is_alive():
            _log.warning("copying the last trials into the Optuna storage, for at most %g s", self._patience)
            try:
                thread.join(max(0.0, self._patience - QUIET_SECONDS) + EXIT_SECONDS)
            finally:
                stop.set()
        if not left or left[0]:
            _log.warning(
                "%s trials were not copied in time; to copy them: automl-nas mirror %s STORAGE",
                left[0] if left else "some",
                self._directory,
            )


def _log_messages(lines: IO[str]) -> None:
    with lines:
        for line in lines:
            _log.warning("%s", json.loads(line))
