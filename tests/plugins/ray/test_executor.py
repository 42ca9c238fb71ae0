"""The executor `ray` on clusters of this machine: its contract, killed actors, a lost node."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from plugins.ray.clusters import toy_cluster

from automl_nas.evaluation.evaluator import State
from automl_nas.plugin import TrialFinished
from automl_nas.plugin.manager import PluginManager
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.run.trials.executor import Executor
from automl_nas.testing import ExecutorContract, toy_plugin
from automl_nas.testing.event_log import read_event_log
from automl_nas_ray.executor import RayExecutor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    # Of Ray itself, which warnings.catch_warnings does not reach in its threads.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with toy_cluster(tmp_path_factory.mktemp("cluster"), num_cpus=3) as started:
        yield started


def manager(*plugins: str) -> PluginManager:
    loaded = PluginManager({"AUTOML_NAS_PLUGINS": ",".join(plugins)}).load()
    loaded.register_module(toy_plugin, "toys")
    return with_builtin(loaded)


@pytest.mark.usefixtures("cluster")
class TestRayExecutor(ExecutorContract):
    """With one actor on a cluster that is already connected."""

    patience = 600.0

    def make(self, folder: Path) -> Executor:
        return RayExecutor(workers=1)

    def names(self) -> tuple[Registry, Mapping[str, Any]]:
        return manager("ray").registry, {
            "space": "failing",
            "strategy": "random_proposals",
            "evaluator": "failing",
        }


def configuration(log: Path, executor: Any, *, trials: int, seconds: float = 0.3) -> dict[str, Any]:
    stage = {
        "name": "search",
        "strategy": {"name": "evolution", "population": 3, "generations": 2},
        "evaluator": {"name": "event_log", "file": str(log), "seconds": seconds},
        "budget": {"trials": trials},
        "batch": 3,
        "ahead": 3,
    }
    return {
        "seed": 3,
        "space": "toy",
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "executor": executor,
        "stages": [stage],
    }


def search(folder: Path, executor: Any, *, trials: int = 6, **settings: Any) -> dict[int, Any]:
    """Search; return the trials by number."""
    log = folder / "log"
    session = Session.start(
        configuration(log, executor, trials=trials, **settings), folder / "run", manager=manager("ray", "evolution")
    )
    session.run()
    return dict(Ledger(folder / "run" / "trials.jsonl", writable=False).trials)


def during_an_evaluation(log: Path, act: Any) -> threading.Thread:
    """Call ``act(process)`` once, as soon as the log names the process of an evaluation that has begun."""

    def wait() -> None:
        until = time.monotonic() + 120.0
        while time.monotonic() < until:
            begun = [event for event in read_event_log(log) if event.what == "begin"] if log.exists() else []
            if begun:
                act(begun[0].process)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_search_is_that_of_this_process_and_survives_a_killed_actor(cluster: Any, tmp_path: Path) -> None:
    for name in ("here", "ray"):
        (tmp_path / name).mkdir()
    here = search(tmp_path / "here", "in_process", seconds=0.0)
    log = tmp_path / "ray" / "log"
    killer = during_an_evaluation(log, lambda process: os.kill(process, signal.SIGKILL))
    there = search(tmp_path / "ray", {"name": "ray", "workers": 3}, seconds=1.0)
    killer.join()
    assert {number: trial.metrics for number, trial in there.items()} == {n: trial.metrics for n, trial in here.items()}
    assert {trial.state for trial in there.values()} == {State.COMPLETE}
    events = read_event_log(log)
    killed = events[0].process
    crashes = [line for line in (tmp_path / "ray/run/trials.jsonl").read_text().splitlines() if '"crashed"' in line]
    assert len(crashes) == 1
    begun = [event.number for event in events if event.what == "begin"]
    ended = [event.number for event in events if event.what == "end"]
    assert sorted(ended) == sorted(here), "a trial was lost or evaluated twice"
    (lost,) = [e.number for e in events if e.what == "begin" and e.process == killed]
    assert sorted(begun) == sorted([*here, lost])
    workers = {trial.worker["process"] for trial in there.values()}
    assert killed not in workers
    assert workers == {event.process for event in events if event.what == "end"}


def test_trials_of_a_lost_node_are_repeated_elsewhere(cluster: Any, tmp_path: Path) -> None:
    """Two nodes with the resource that evaluations need; one of them is lost during an evaluation."""
    nodes = [cluster.add_node(num_cpus=1, resources={"spot": 1}) for _ in range(2)]
    cluster.wait_for_nodes()
    log = tmp_path / "log"
    lost: list[int] = []

    def lose_its_node(process: int) -> None:
        cluster.remove_node(node_of(nodes, process), allow_graceful=False)
        lost.append(process)

    loser = during_an_evaluation(log, lose_its_node)
    trials = search(tmp_path, {"name": "ray", "workers": 2, "resources": {"spot": 1}}, trials=4, seconds=1.5)
    loser.join()
    assert {number: trial.state for number, trial in trials.items()} == dict.fromkeys(range(4), State.COMPLETE)
    assert lost[0] not in {trial.worker["process"] for trial in trials.values()}
    assert {trial.worker["process"] for trial in trials.values()} == {
        event.process for event in read_event_log(log) if event.what == "end"
    }
    attempts = [line for line in (tmp_path / "run" / "trials.jsonl").read_text().splitlines() if '"crashed"' in line]
    assert attempts == [], "the candidate counts as the cause"


def node_of(nodes: list[Any], process: int) -> Any:
    """Return the node whose raylet started a process."""
    import psutil

    ancestors = {parent.pid for parent in psutil.Process(process).parents()}
    return next(n for n in nodes if ancestors & {i.process.pid for i in n.all_processes["raylet"]})


def test_an_actor_that_cannot_construct_its_evaluator_is_a_located_error(cluster: Any, tmp_path: Path) -> None:
    from automl_nas.errors import ConfigurationError

    missing = {"name": "ray", "workers": 1, "runtime_env": {"env_vars": {"AUTOML_NAS_PLUGINS": "ray"}}}
    with pytest.raises(ConfigurationError, match=r"an actor of Ray cannot evaluate.*"):
        search(tmp_path, missing)


def test_finished_trials_are_events_with_their_worker(cluster: Any, tmp_path: Path) -> None:
    seen: list[str] = []
    Session.start(
        configuration(tmp_path / "log", {"name": "ray", "num_cpus": 0.5}, trials=3, seconds=0.0),
        tmp_path / "run",
        manager=manager("ray", "evolution"),
        handlers={TrialFinished: lambda event: seen.append(event.trial.worker["device"])},
    ).run()
    assert seen == ["cpu"] * 3
