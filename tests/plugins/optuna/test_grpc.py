"""Runs over Optuna's gRPC proxy: the mirror, a worker in another process, and a proxy that is killed and restarted."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
from plugins.optuna.servers import free_port, grpc_proxy
from plugins.optuna.test_mirror import mirrored
from plugins.optuna.test_workers import CANDIDATE, StubEvaluatorSource, answered
from plugins.optuna.worker_processes import configuration, entries, install, start

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.testing import ToySpace
from automl_nas_optuna.objective.suggesting import architecture_of
from automl_nas_optuna.storages import open_storage
from automl_nas_optuna.workers.executor import OptunaExecutor
from automl_nas_optuna.workers.queue import Queue

pytest.importorskip("grpc", reason="gRPC (grpcio) is not installed")


@pytest.mark.slow
@pytest.mark.process
def test_a_worker_evaluates_and_the_mirror_copies_over_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, event_log, run = install(tmp_path), tmp_path / "event_log", tmp_path / "run"
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", environment["AUTOML_NAS_PLUGINS"])
    with grpc_proxy(f"sqlite:///{tmp_path}/trials.db") as address:
        config = configuration(event_log, {"name": "optuna", "storage": address, "poll": 0.02}, seconds=0.0, trials=10)
        config["observers"] = [{"name": "optuna", "storage": address, "patience": 300.0}]
        worker = start(environment, "worker", address, "--idle", "600")
        try:
            Session.start(config, run, manager=with_builtin(PluginManager().load())).run()
        finally:
            worker.send_signal(signal.SIGINT)
            output = worker.communicate()[0]
        copies = mirrored(address, "run/search")
    trials = Ledger(run / "trials.jsonl", writable=False).trials
    assert {trial.state for trial in trials.values()} == {State.COMPLETE}, output
    assert entries(event_log, "end") == [(number, worker.pid) for number in range(10)]
    assert worker.pid != os.getpid()
    assert copies.keys() == trials.keys() == set(range(10))
    for number, trial in trials.items():
        assert architecture_of(copies[number].params, ToySpace()) == trial.architecture
        assert copies[number].values == [trial.metrics["accuracy"]]


@pytest.mark.slow
@pytest.mark.process
def test_a_proxy_that_goes_away_makes_the_run_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database behind the proxy contains the queue. With a new proxy on the same port, the run continues."""
    database, port = f"sqlite:///{tmp_path}/queue.db", free_port()
    with grpc_proxy(database, port) as address:
        executor = OptunaExecutor(storage=address, poll=0.01)
        executor.open(StubEvaluatorSource(tmp_path), lambda numbers: None, None)
        executor.submit(Request(0, CANDIDATE, seed=1))
        assert executor.next() is None
    with caplog.at_level(logging.WARNING):
        assert executor.next() is None
    assert f"the Optuna storage grpc://127.0.0.1:{port} cannot be reached" in caplog.text
    with grpc_proxy(database, port):
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
