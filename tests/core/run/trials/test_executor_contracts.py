"""The executors of the core keep the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from automl_nas.run.trials.executor import Executor, InProcess
from automl_nas.run.trials.worker_processes import WorkerProcesses
from automl_nas.testing import ExecutorContract


class TestInProcess(ExecutorContract):
    stops = False

    def make(self, folder: Path) -> Executor:
        return InProcess()


@pytest.mark.process
class TestWorkerProcesses(ExecutorContract):
    def make(self, folder: Path) -> Executor:
        return WorkerProcesses(workers=1)
