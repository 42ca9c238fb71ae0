"""A stand-in for the module `ray`: actors whose answers, deaths and nodes the test decides, without any process."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorDiedError(RayActorError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class GetTimeoutError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class WorkerCrashedError(RayError):
    pass


class RuntimeEnvSetupError(RayError):
    pass


class Reference:
    """A future: pending until it has an answer, or an error that `FakeRay.get` raises."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.answer: str | Exception | None = None


class FakeActor:
    """An actor on a node."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options, self.killed = options, False
        self.calls: list[Reference] = []
        self.prepare = SimpleNamespace(remote=self._call)
        self.evaluate = SimpleNamespace(remote=self._call)
        self.pinged: str | Exception = "alive"
        self.ping = SimpleNamespace(remote=self._answer_ping)

    def _call(self, text: str) -> Reference:
        self.calls.append(Reference(text))
        return self.calls[-1]

    def _answer_ping(self) -> Reference:
        reference = Reference("")
        reference.answer = self.pinged
        return reference

    def ready(self, node: str = "n0", process: int = 7) -> None:
        """Answer that the evaluator is constructed."""
        worker = {"host": "gpu3", "process": process, "device": "cpu", "versions": {}}
        self.calls[-1].answer = json.dumps({"worker": worker, "node": node})

    def deliver(self, accuracy: float) -> None:
        """Answer with an outcome."""
        fields = {"metrics": {"accuracy": accuracy}, "state": "complete", "error": "", "seconds": 1.0, "info": {}}
        self.calls[-1].answer = json.dumps({"outcome": fields})

    def fail(self, error: Exception) -> None:
        """Let the call end with an error of Ray."""
        self.calls[-1].answer = error


class FakeRay:
    """What the executor uses of the module."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        RayActorError=RayActorError,
        ActorDiedError=ActorDiedError,
        ActorUnavailableError=ActorUnavailableError,
        OutOfMemoryError=OutOfMemoryError,
        WorkerCrashedError=WorkerCrashedError,
        RuntimeEnvSetupError=RuntimeEnvSetupError,
    )

    def __init__(self) -> None:
        self.actors: list[FakeActor] = []
        self.init_error: BaseException | None = None
        self.init_settings: dict[str, Any] = {}
        self.alive = {"n0": True, "n1": True}
        self.resources: dict[str, float] = {"CPU": 4.0, "memory": 1e9}

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str | None, **settings: Any) -> None:
        self.init_settings = settings
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does, with another handler
        if self.init_error is not None:
            raise self.init_error

    def remote(self, kind: type) -> Any:
        def make(**options: Any) -> Any:
            def create() -> FakeActor:
                self.actors.append(FakeActor(options))
                return self.actors[-1]

            return SimpleNamespace(remote=create)

        return SimpleNamespace(options=make)

    def wait(self, references: list[Reference], *, num_returns: int, timeout: float) -> Any:
        done = [reference for reference in references if reference.answer is not None]
        return done[:num_returns], []

    def get(self, reference: Reference, timeout: float | None = None) -> str:
        if isinstance(reference.answer, Exception):
            raise reference.answer
        assert reference.answer is not None
        return reference.answer

    def kill(self, actor: FakeActor, *, no_restart: bool) -> None:
        assert no_restart
        actor.killed = True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": alive, "Resources": self.resources} for name, alive in self.alive.items()]
