"""Device, threads, space and plugins of a worker, compared with those of the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from plugins.optuna.queue_runs import begin, configuration, forget_plugins, install_plugin, work

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome
from automl_nas.evaluation.runtime import Runtime
from automl_nas.run import WorkerRuntime, complete_manager, make_plan
from automl_nas_optuna.workers.queue import Queue

requires_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    install_plugin(tmp_path, monkeypatch)
    yield str(tmp_path / "queue.journal")
    forget_plugins()


def test_threads_belong_to_the_worker(storage: str, tmp_path: Path) -> None:
    plan, executor = begin(tmp_path, storage, runtime={"device": "auto", "threads": None})
    # What the process of the run has is recorded, and what was asked for is recorded beside it.
    assert plan.config["runtime"]["threads"] == torch.get_num_threads()
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert identity["runtime"] == {"device": "auto", "threads": None}
    own = torch.get_num_threads() + 1
    lines = work(storage, runtime=WorkerRuntime(threads=own))
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.metrics["threads"] == own
    device = str(Runtime().device)
    assert lines == [
        f"process {os.getpid()} on {os.uname().nodename} ({device}), {own} CPU threads: "
        f"evaluates for {tmp_path / 'run'} "
        "(queue run/queue)",
        f"trial 0: threads {own}, cpu {int(device == 'cpu')} in {lines[1].split()[-2]} s",
    ]
    executor.close()


def test_a_device_that_was_not_asked_for_is_not_forced_on_workers() -> None:
    # The process of the run has a GPU, and this machine may have none: "auto" was asked for.
    description = {
        "config": {"runtime": {**Runtime(device="cpu").settings(), "device": "cuda:7"}},
        "identity": {"runtime": {"device": "auto", "threads": None}},
    }
    assert WorkerRuntime().settings(description) == Runtime().settings()
    assert WorkerRuntime("cpu").settings(description)["device"] == "cpu"
    # An older version of the run recorded no requirement.
    assert WorkerRuntime().settings({"config": description["config"]}) == Runtime().settings()


@requires_no_gpu
def test_a_required_device_is_checked_by_the_worker_and_not_by_the_run(storage: str, tmp_path: Path) -> None:
    plan, executor = begin(tmp_path, storage, runtime={"device": "cuda"})
    assert plan.config["runtime"]["device"] == "cuda"
    with pytest.raises(ConfigurationError, match=r"the run requires the device 'cuda' .* is not available"):
        work(storage)
    with pytest.raises(ConfigurationError, match=r"requires the device 'cuda' .* was started with --device cpu"):
        work(storage, runtime=WorkerRuntime("cpu"))
    queue = Queue(storage, "run/queue")
    queue.join()
    assert queue.claim() is not None, "a worker that was refused took the evaluation away"
    queue.close()
    executor.close()


@requires_no_gpu
def test_a_process_that_trains_needs_the_device_itself(storage: str) -> None:
    registry = complete_manager().registry
    local = configuration(storage, runtime={"device": "cuda"}, executor="in_process")
    with pytest.raises(ConfigurationError, match="the device 'cuda' is not available"):
        make_plan(local, registry)
    runtime = Runtime(device="cuda", needed=False)
    assert runtime.settings()["device"] == "cuda"
    runtime.activate()
    with runtime.seeded(1, "test"):
        before = torch.rand(1)
    with Runtime(device="cpu").seeded(1, "test"):
        assert torch.equal(before, torch.rand(1))
    with pytest.raises(ConfigurationError, match="the device 'cuda' is not available"):
        runtime.place(torch.nn.Linear(1, 1))


def test_a_worker_with_another_space_is_refused(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, executor = begin(tmp_path, storage)
    monkeypatch.setattr("measuring_plugin.OPTIONS", ("a", "b", "c"))
    difference = r"another search space than the run: the decision 'letter' was .*'b'\)\) and is .*'c'\)\)"
    with pytest.raises(ConfigurationError, match=difference):
        work(storage)
    monkeypatch.undo()
    executor.close()


def test_a_worker_with_another_version_of_a_plugin_is_refused(storage: str, tmp_path: Path) -> None:
    _, executor = begin(tmp_path, storage)
    metadata = tmp_path / "measuring-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Version: 1.0", "Version: 2.0"))
    forget_plugins()
    with pytest.raises(ConfigurationError, match=r"version 1\.0 of measuring, and this worker has version 2\.0"):
        work(storage)
    executor.close()
