"""The contracts of observers and executors."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plugins.optuna.test_mirror import mirrored
from plugins.optuna.worker_processes import start

from automl_nas.plugin.manager import PluginManager
from automl_nas.plugin.observer import Observer
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.trials.executor import Executor
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.trial import Trial
from automl_nas.testing import ExecutorContract, ObserverContract, toy_plugin
from automl_nas.testing.toy_plugin import installed_toys
from automl_nas_optuna.mirror.observer import MirrorObserver
from automl_nas_optuna.workers.executor import OptunaExecutor


@pytest.mark.process
class TestMirrorObserver(ObserverContract):
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        # A patience that suffices on a busy machine.
        return MirrorObserver(space, storage=str(folder / "trials.journal"), study="watched", patience=300.0)

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:
        for stage in ("first", "second"):
            copies = mirrored(str(folder / "trials.journal"), f"watched/{stage}")
            assert copies.keys() == {number for number, trial in trials.items() if trial.stage == stage}


@pytest.mark.slow
@pytest.mark.process
class TestOptunaExecutor(ExecutorContract):
    """With one worker, ``automl-nas worker``, which restarts itself when an evaluation exceeds its timeout."""

    def make(self, folder: Path) -> Executor:
        return OptunaExecutor(storage=str(folder / "queue.journal"), poll=0.02)

    def names(self) -> tuple[Registry, Mapping[str, Any]]:
        manager = PluginManager({"AUTOML_NAS_PLUGINS": "optuna"}).load()
        manager.register_module(toy_plugin, "toys")
        return with_builtin(manager).registry, {
            "space": "failing",
            "strategy": "random_proposals",
            "evaluator": "failing",
        }

    @contextmanager
    def workers(self, folder: Path) -> Iterator[None]:
        worker = start(installed_toys(folder, "optuna"), "worker", str(folder / "queue.journal"), "--idle", "600")
        try:
            yield
        finally:
            worker.send_signal(signal.SIGINT)
            worker.communicate()
