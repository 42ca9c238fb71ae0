"""Runs over Optuna's gRPC proxy: the mirror, a worker on another process, and a proxy that goes away."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
from plugins.optuna.crews import configuration, entries, install, start
from plugins.optuna.servers import free_port, grpc_proxy
from plugins.optuna.test_mirror import mirrored
from plugins.optuna.test_workers import CANDIDATE, Unused, answered

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.testing import ToySpace
from automl_nas_optuna.executor import OptunaExecutor
from automl_nas_optuna.queues import Queue
from automl_nas_optuna.storages import open_storage
from automl_nas_optuna.suggesting import architecture_of

pytest.importorskip("grpc", reason="gRPC (grpcio) is not installed")


def test_a_worker_evaluates_and_the_mirror_copies_over_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, diary, run = install(tmp_path), tmp_path / "diary", tmp_path / "run"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", environment["AUTOML_NAS_PLUGINS"])
    with grpc_proxy(f"sqlite:///{tmp_path}/trials.db") as address:
        config = configuration(diary, {"name": "optuna", "storage": address, "poll": 0.02}, seconds=0.0, trials=10)
        config["observers"] = [{"name": "optuna", "storage": address, "patience": 300.0}]
        worker = start(environment, "worker", address, "--idle", "120")
        try:
            Session.start(config, run, manager=with_builtin(PluginManager().load())).run()
        finally:
            worker.send_signal(signal.SIGINT)
            told = worker.communicate()[0]
        found = mirrored(address, "run/search")
    trials = Ledger(run / "trials.jsonl", writable=False).trials
    assert {trial.state for trial in trials.values()} == {State.COMPLETE}, told
    assert entries(diary, "end") == [(number, worker.pid) for number in range(10)]
    assert worker.pid != os.getpid()
    assert found.keys() == trials.keys() == set(range(10))
    for number, trial in trials.items():
        assert architecture_of(found[number].params, ToySpace()) == trial.architecture
        assert found[number].values == [trial.metrics["accuracy"]]


def test_a_proxy_that_goes_away_makes_the_run_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is behind it keeps the queue; a new proxy of it, on the same port, and the run goes on."""
    database, port = f"sqlite:///{tmp_path}/queue.db", free_port()
    with grpc_proxy(database, port) as address:
        executor = OptunaExecutor(storage=address, poll=0.01)
        executor.open(Unused(tmp_path), lambda numbers: None, None)
        executor.submit(Request(0, CANDIDATE, seed=1))
        assert executor.next() is None
    with caplog.at_level(logging.WARNING):
        assert executor.next() is None
    assert f"the Optuna storage grpc://127.0.0.1:{port} cannot be reached" in caplog.text
    with grpc_proxy(database, port):
        open_storage(address)  # waits until it answers
        queue = Queue(address, f"{tmp_path.name}/queue")
        queue.join()
        assert answered(queue, 0.5) == 0
        outcome = executor.next()
        assert isinstance(outcome, Outcome)
        assert outcome.metrics == {"accuracy": 0.5}
        assert executor.close() == []
        queue.close()


def test_an_address_needs_a_host_and_a_port() -> None:
    for address in ("grpc://localhost", "grpc://:13000", "grpc://localhost:port"):
        with pytest.raises(ConfigurationError, match="needs a host and a port: grpc://host:13000"):
            open_storage(address)
