"""What the executor `ray` does when actors answer, die, or are on nodes that are lost; without Ray."""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from plugins.ray.fake_ray import (
    ActorDiedError,
    ActorUnavailableError,
    FakeRay,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RuntimeEnvSetupError,
)

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import Crash
from automl_nas.run.trials.rehearsal import Rehearsal
from automl_nas.space.architecture import Architecture
from automl_nas_ray import executor as module
from automl_nas_ray.actor import EvaluationActor
from automl_nas_ray.cluster import Resources, connect, missing
from automl_nas_ray.executor import RayExecutor

CANDIDATE = Architecture({"block": 1})


class StubSource(StageEvaluator):
    """A source whose run requires a device."""

    def __init__(self, device: str) -> None:
        self._device = device

    def portable(self) -> dict[str, Any]:
        runtime = {"device": self._device, "threads": None}
        return {"config": {}, "directory": "runs/1", "stage": 2, "identity": {"runtime": runtime}}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setattr(module, "connect", lambda address: fake)
    return fake


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    before = signal.getsignal(signal.SIGTERM)
    for error, reason in ((SystemExit(15), "it does not answer"), (ConnectionError("refused"), "refused")):
        fake.init_error = error
        with pytest.raises(ConfigurationError, match=rf"no Ray cluster at 10.0.0.1:6379: {reason}; start a cluster"):
            connect("10.0.0.1:6379")
        assert signal.getsignal(signal.SIGTERM) is before
    fake.init_error = None
    assert connect("10.0.0.1:6379") is fake
    assert fake.init_settings["namespace"] == "automl_nas"
    assert signal.getsignal(signal.SIGTERM) is before


def opened(begun: list[int], *, timeout: float | None = None, device: str = "auto", **settings: Any) -> RayExecutor:
    executor = RayExecutor(**settings)
    executor.open(StubSource(device), begun.extend, timeout)
    return executor


def submitted(executor: RayExecutor, *numbers: int) -> None:
    for number in numbers:
        executor.submit(Request(number, CANDIDATE, seed=number))


def test_requests_cross_as_json_and_outcomes_return_with_their_worker(ray: FakeRay) -> None:
    begun: list[int] = []
    executor = opened(begun, num_cpus=2.5, num_gpus=0.5, resources={"fast": 1}, runtime_env={"env_vars": {"A": "1"}})
    submitted(executor, 4)
    assert executor.next() is None
    (actor,) = ray.actors
    assert actor.options == {
        "num_cpus": 2.5,
        "num_gpus": 0.5,
        "resources": {"fast": 1},
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": {"A": "1"}},
    }
    settings = json.loads(actor.calls[0].text)
    assert (settings["device"], settings["threads"], settings["directory"]) == (None, 2, None)
    assert settings["description"]["stage"] == 2
    assert begun == [], "the evaluation is reported as started before its actor is ready"
    actor.ready()
    assert executor.next() is None
    assert executor.next() is None
    assert begun == [4]
    assert json.loads(actor.calls[1].text) == {
        "number": 4,
        "stage": 2,
        "architecture": {"block": 1},
        "seed": 4,
        "fidelity": None,
    }
    actor.deliver(0.5)
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert (outcome.number, outcome.metrics) == (4, {"accuracy": 0.5})
    assert executor.close() == []
    assert actor.killed


def test_actors_are_as_many_as_outstanding_evaluations_or_as_the_limit(ray: FakeRay) -> None:
    executor = opened([])
    submitted(executor, *range(5))
    executor.next()
    assert len(ray.actors) == 5
    executor.close()
    assert all(actor.killed for actor in ray.actors)
    limited = opened([], workers=2)
    submitted(limited, *range(5))
    limited.next()
    assert len(ray.actors) == 7
    assert json.loads(ray.actors[-1].calls[0].text)["device"] == "cpu", "without GPUs it is the CPU"


def working(executor: RayExecutor, ray: FakeRay, *, node: str = "n0") -> None:
    """Start an actor for what is outstanding, and let it begin."""
    executor.next()
    ray.actors[-1].ready(node)
    executor.next()
    executor.next()


@pytest.mark.parametrize(
    "error",
    [ActorDiedError("died"), OutOfMemoryError("memory"), ActorUnavailableError("no answer")],
    ids=["killed", "out of memory", "killed, as Ray learns later"],
)
def test_an_actor_that_dies_is_a_crash_of_its_trial(ray: FakeRay, error: Exception) -> None:
    begun: list[int] = []
    executor = opened(begun)
    submitted(executor, 0)
    working(executor, ray)
    ray.actors[0].pinged = ActorDiedError("exit code 1")
    ray.actors[0].fail(error)
    crash = executor.next()
    assert isinstance(crash, Crash)
    assert crash.number == 0
    assert "process 7 on gpu3" in crash.reason
    # The run counts the attempt and submits the trial again, to an actor of its own.
    assert executor.resubmit(Request(0, CANDIDATE, seed=0))
    working(executor, ray)
    assert begun == [0, 0]
    assert len(ray.actors) == 2
    assert executor.close() == [0]


@pytest.mark.parametrize(
    ("error", "ping", "alive"),
    [
        (ActorDiedError("died"), "alive", False),
        (ActorUnavailableError("no answer"), GetTimeoutError("10 s"), True),
        (ActorUnavailableError("no answer"), ActorDiedError("its node died"), False),
        (ActorUnavailableError("no answer"), "alive", True),
    ],
    ids=["dead", "silent", "dead later", "back"],
)
def test_trials_of_lost_nodes_are_repeated_and_then_fail(
    ray: FakeRay, error: Exception, ping: str | Exception, alive: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[int] = []
    executor = opened(begun, retries=2)
    submitted(executor, 0)
    for attempt in range(3):
        ray.alive["n1"] = True
        working(executor, ray, node="n1")
        ray.alive["n1"] = alive
        ray.actors[-1].pinged = ping
        ray.actors[-1].fail(error)
        outcome = executor.next()
        assert (outcome is None) == (attempt < 2)
    assert isinstance(outcome, Outcome)
    assert (outcome.state, outcome.error) == (
        State.FAILED,
        "3 nodes were lost or could not be reached while they evaluated it",
    )
    assert begun == [0], "a repetition is not a new attempt"
    assert "the node of its worker (process 7 on gpu3 (cpu)) was lost" in caplog.text
    assert executor.close() == []


def test_a_timeout_ends_the_actor_and_the_next_trial_has_another(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    executor = opened([], timeout=5.0, workers=1)
    submitted(executor, 0, 1)
    now[0] = 20.0
    working(executor, ray)
    now[0] = 24.9
    assert executor.next() is None
    now[0] = 25.1
    outcome = executor.next()
    assert isinstance(outcome, Outcome)
    assert outcome.error == "stopped after its timeout of 5 s"
    assert outcome.seconds == pytest.approx(5.1)
    assert ray.actors[0].killed
    working(executor, ray)
    ray.actors[1].deliver(1.0)
    assert isinstance(outcome := executor.next(), Outcome)
    assert outcome.number == 1


def test_actors_that_never_start_end_the_stage(ray: FakeRay, caplog: pytest.LogCaptureFixture) -> None:
    executor = opened([])
    submitted(executor, 0)
    for _ in range(2):
        executor.next()
        ray.actors[-1].fail(RayActorError("exit code 1"))
        assert executor.next() is None
    executor.next()
    ray.actors[-1].fail(RayActorError("exit code 1"))
    with pytest.raises(EvaluationError, match="could not start, 3 times in a row: exit code 1"):
        executor.next()
    assert caplog.text.count("another one is started") == 2


def test_errors_of_actors_and_of_ray_are_located(ray: FakeRay) -> None:
    cases: list[tuple[str | Exception, type[Exception], str]] = [
        (json.dumps({"error": "no such data", "user": True}), ConfigurationError, "cannot evaluate: no such data"),
        (json.dumps({"error": "it yielded nothing", "user": False}), EvaluationError, "it yielded nothing"),
        (RuntimeEnvSetupError("no wheel"), ConfigurationError, "Ray cannot set it up: no wheel"),
        (RayError("the store is full"), EvaluationError, "Ray: the store is full"),
    ]
    for answer, kind, message in cases:
        executor = opened([])
        submitted(executor, 0)
        executor.next()
        ray.actors[-1].calls[-1].answer = answer
        with pytest.raises(kind, match=message):
            executor.next()
        executor.close()


def test_resources_that_no_node_has_are_said(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=r"this machine does not have the resources GPU: 1 \(the largest"):
        opened([], address="local", num_gpus=1)
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    executor = opened([], num_gpus=1, num_cpus=8)
    submitted(executor, 0)
    executor.next()
    assert caplog.text == ""
    now[0] = 31.0
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            executor.next()
    assert caplog.text.count("CPU: 8 (the largest node has 4), GPU: 1 (the largest node has 0)") == 1
    # One node has the memory and another the cores: no node has both.
    ray.resources = {"CPU": 8.0}
    assert missing(ray, Resources(num_cpus=8, memory=2e9)) == "memory: 2e+09 (the largest node has 0)"
    assert missing(ray, Resources(num_cpus=8)) == ""


def test_a_run_that_requires_a_gpu_needs_one_for_each_evaluation(ray: FakeRay) -> None:
    with pytest.raises(ConfigurationError, match=r"requires the device 'cuda'.*num_gpus: 1") as error:
        opened([], device="cuda")
    assert error.value.path == "executor.num_gpus"
    opened([], device="cuda", num_gpus=1)
    opened([], device="cpu")


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"workers": 0}, "workers"),
        ({"retries": -1}, "retries"),
        ({"num_cpus": -1}, "num_cpus"),
        ({"num_cpus": float("nan")}, "num_cpus"),
        ({"num_gpus": 1.5}, "num_gpus"),
        ({"memory": float("inf")}, "memory"),
        ({"resources": {"fast": -1}}, "resources.fast"),
        ({"resources": {"GPU": 1}}, "resources.GPU"),
    ],
)
def test_values_that_ray_would_refuse_later_are_refused(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        RayExecutor(**settings)
    assert error.value.path == path


def test_a_missing_ray_and_python_objects_are_found_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'automl-nas\[ray\]'"):
        RayExecutor().rehearse(Rehearsal({}, {}))
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(ConfigurationError, match="other machines need a configuration of names"):
        RayExecutor().rehearse(Rehearsal({}, {"python:mine:Space": object}))


def test_an_actor_reports_what_it_cannot_construct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The run's version of the framework is another one: the error crosses as JSON."""
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    description = {
        "config": {"runtime": {}, "space": {"name": "x"}, "stages": [{"evaluator": None}]},
        "directory": str(tmp_path),
        "stage": 0,
        "identity": {},
        "versions": {"automl-nas": "99.0"},
    }
    settings = {"description": description, "device": "cpu", "threads": 1, "directory": None}
    answer = json.loads(EvaluationActor().prepare(json.dumps(settings)))
    assert answer["error"]
    assert set(answer) == {"error", "user"}
