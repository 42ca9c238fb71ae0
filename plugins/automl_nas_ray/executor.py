"""`RayExecutor`: evaluations in actors of a Ray cluster."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation import Outcome, Request, State
from automl_nas.run import (
    PATIENCE,
    Crash,
    EvaluatorSource,
    Executor,
    Rehearsal,
    StageEvaluator,
    read_outcome,
    serialize_request,
    timed_out,
    worker_name,
)
from automl_nas_ray.cluster import Resources, connect, missing, node_is_lost

_log = logging.getLogger(__name__)

RESTARTS = 2
"""Number of times in a row that an actor which dies while it starts is started again."""

WAITING_SECONDS = 30.0
"""Seconds after which the run says that actors wait for resources."""


@dataclass
class _Worker:
    """An actor.

    Attributes:
        actor: Ray's handle.
        reference: of the answer that is computed; None: the actor is idle.
        created: the time (`time.monotonic`) of its creation.
        request: what it evaluates.
        begun: the time (`time.monotonic`) at which that was sent.
        name: how messages call it; empty while it starts.
        node: Ray's identifier of its node.
    """

    actor: Any
    reference: Any
    created: float
    request: Request | None = None
    begun: float = 0.0
    name: str = ""
    node: str = ""


@final
class RayExecutor(Executor):
    """Evaluates in actors of a Ray cluster, each a process with resources of its own.

    An actor whose process ends takes its trial along: it is tried once more, and FAILED the second time, as in worker
    processes. If the node is lost, the candidate is not the cause: the trial is repeated up to ``retries`` times.
    An evaluation that exceeds its timeout is stopped with its actor. Only strings of JSON cross: the
    configuration of the run, requests and outcomes. Actors construct their evaluators from it, so their nodes need the
    same plugins and data, and the run directory if evaluators inherit weights.

    Args:
        address: of the cluster: ``host:6379``, ``ray://host:10001``, ``auto`` (the cluster that this machine is part
            of), ``local`` (a new one on this machine); null: the environment variable RAY_ADDRESS, a cluster that was
            started on this machine, or else a new one.
        workers: the largest number of actors; null: as many as evaluations are outstanding. Those for which there are
            no free resources wait, and a cluster with an autoscaler grows.
        num_cpus: CPU cores of each actor, which are also the threads of torch unless ``runtime.threads`` is set.
        num_gpus: GPUs of each actor; 0.5 has two actors share one. 0: evaluations are done on the CPU.
        memory: bytes of memory that each actor reserves; null: none.
        resources: name of a custom resource -> amount that each actor reserves.
        runtime_env: Ray's runtime environment of the actors, such as ``{env_vars: {NAME: value}}``.
        directory: the path of the run directory on the nodes; null: where it is for the run.
        retries: how often an evaluation is repeated because its node was lost; after that the trial is FAILED.
    """

    remote = True

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: int | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        memory: float | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        directory: str | None = None,
        retries: int = 3,
    ) -> None:
        if workers is not None and workers < 1:
            raise ConfigurationError(f"must be at least 1, but is {workers}", path="workers")
        if retries < 0:
            raise ConfigurationError(f"must not be negative, but is {retries}", path="retries")
        self._resources = Resources(num_cpus, num_gpus, memory, dict(resources or {}))
        self._resources.check()
        self._address, self._limit, self._directory, self._retries = address, workers, directory, retries
        self._environment = dict(runtime_env or {})
        self._workers: list[_Worker] = []
        self._queue: deque[Request] = deque()
        self._begun: set[int] = set()  # trials that are reported as started and have no outcome
        self._lost: Counter[int] = Counter()  # number of nodes that were lost during a trial
        self._died = 0  # actors in a row that died while they started
        self._said = False

    def rehearse(self, rehearsal: Rehearsal) -> None:
        """Connect to the cluster, and check that the configuration holds names only; see `Executor.rehearse`."""
        rehearsal.require_names()
        self._connect()

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Connect to the cluster; actors are started with the first requests. See `Executor.open`.

        Raises:
            ConfigurationError: Ray is not installed, the cluster cannot be reached or has no such resources, the run
                requires a GPU and evaluations reserve none, or the configuration contains Python objects.
        """
        if not isinstance(source, StageEvaluator):
            raise ConfigurationError(
                "actors construct their evaluators from a configuration, and the evaluators of this run have none",
                path="executor",
            )
        description = source.portable()
        required = {"device": "auto", "threads": None, **description["identity"].get("runtime", {})}
        gpus = self._resources.num_gpus
        if not gpus and str(required["device"]).partition(":")[0] not in ("auto", "cpu"):
            raise ConfigurationError(
                f"the run requires the device '{required['device']}' (its runtime.device), and evaluations reserve no "
                "GPU; set executor: {name: ray, num_gpus: 1}",
                path="executor.num_gpus",
            )
        settings = {
            "description": description,
            "device": None if gpus else "cpu",
            "threads": required["threads"] or max(1, int(self._resources.num_cpus)),
            "directory": self._directory,
        }
        self._settings = json.dumps(settings)
        self._stage, self._starting, self._timeout = description["stage"], starting, timeout
        self._connect()

    def submit(self, request: Request) -> None:
        """Accept a request; return at once."""
        self._queue.append(request)

    def resubmit(self, request: Request) -> bool:
        """Accept a request whose process ended: actors are isolated from the run and from each other."""
        self.submit(request)
        return True

    def next(self) -> Outcome | Crash | None:
        """Wait for an outcome or a crash, at most `PATIENCE` seconds.

        Raises:
            ConfigurationError: an actor cannot construct its evaluator.
            EvaluationError: an evaluator broke its contract, actors cannot start, or the cluster is gone.
        """
        self._dispatch()
        busy = {worker.reference: worker for worker in self._workers if worker.reference is not None}
        if not busy:
            return None
        done, _ = self._ray.wait(list(busy), num_returns=1, timeout=PATIENCE)
        if done:
            return self._answer(busy[done[0]])
        self._say_what_is_missing()
        return self._timed_out()

    def close(self) -> list[int]:
        """Stop all actors; evaluations that are running are killed. The connection to the cluster stays open."""
        begun = sorted(self._begun)
        self._queue.clear()
        self._begun.clear()
        self._lost.clear()
        for worker in list(self._workers):
            self._end(worker)
        return begun

    def _connect(self) -> None:
        self._ray = connect(self._address)
        # A cluster of this machine has what it has; any other one may grow.
        if self._address == "local" and (lacks := missing(self._ray, self._resources)):
            raise ConfigurationError(f"this machine does not have the resources {lacks}", path="executor")

    def _dispatch(self) -> None:
        outstanding = len(self._queue) + sum(worker.request is not None for worker in self._workers)
        count = outstanding if self._limit is None else min(self._limit, outstanding)
        for _ in range(count - len(self._workers)):
            self._workers.append(self._start())
        for worker in self._workers:
            if worker.reference is None and self._queue:
                request = self._queue.popleft()
                if request.number not in self._begun:
                    self._starting([request.number])
                    self._begun.add(request.number)
                text = json.dumps(serialize_request(request, self._stage))
                worker.request, worker.begun = request, time.monotonic()
                worker.reference = worker.actor.evaluate.remote(text)

    def _start(self) -> _Worker:
        from automl_nas_ray.actor import EvaluationActor

        options = {**self._resources.options(), "max_restarts": 0, "max_task_retries": 0}
        if self._environment:
            options["runtime_env"] = self._environment
        actor = self._ray.remote(EvaluationActor).options(**options).remote()
        return _Worker(actor, actor.prepare.remote(self._settings), time.monotonic())

    def _answer(self, worker: _Worker) -> Outcome | Crash | None:
        errors = self._ray.exceptions
        try:
            answer = json.loads(self._ray.get(worker.reference))
        except (errors.RayActorError, errors.OutOfMemoryError, errors.WorkerCrashedError) as error:
            return self._ended(worker, error)
        except errors.RuntimeEnvSetupError as error:
            raise ConfigurationError(f"Ray cannot set it up: {_line(error)}", path="executor.runtime_env") from error
        except errors.RayError as error:
            raise EvaluationError(f"Ray: {_line(error)}") from error
        if "error" in answer:
            self._end(worker)
            where = f" ({worker.name})" if worker.name else ""
            if answer["user"]:
                raise ConfigurationError(f"an actor of Ray cannot evaluate{where}: {answer['error']}", path="executor")
            raise EvaluationError(answer["error"])
        worker.reference, self._died = None, 0
        if not worker.name:
            worker.name, worker.node = worker_name(answer["worker"]), answer["node"]
            return None
        assert worker.request is not None
        number, worker.request = worker.request.number, None
        self._begun.discard(number)
        return read_outcome(number, answer["outcome"])

    def _ended(self, worker: _Worker, error: Exception) -> Outcome | Crash | None:
        """Remove an actor that ended; return what that means for its trial, None if it is repeated or has none."""
        request, is_lost = worker.request, node_is_lost(self._ray, worker.actor, worker.node, error)
        self._end(worker)
        if request is None:
            self._died += 1
            if self._died > RESTARTS:
                raise EvaluationError(
                    f"an actor of Ray could not start, {self._died} times in a row: {_line(error)}; its log is in the "
                    "folder logs of Ray's session, and `ray logs` prints it"
                ) from error
            _log.warning("an actor of Ray died while it started; another one is started")
            return None
        number = request.number
        if not is_lost:
            self._begun.discard(number)
            return Crash(number, f"killed, or ended itself ({worker.name})")
        self._lost[number] += 1
        if self._lost[number] > self._retries:
            self._begun.discard(number)
            error_text = f"{self._lost[number]} nodes were lost or could not be reached while they evaluated it"
            return Outcome(number, state=State.FAILED, error=error_text)
        _log.warning(
            "trial %d: the node of its worker (%s) was lost or cannot be reached; the trial is repeated",
            number,
            worker.name,
        )
        self._queue.appendleft(request)
        return None

    def _timed_out(self) -> Outcome | None:
        """Stop an evaluation that exceeded the timeout, if there is one, and return its outcome."""
        for worker in self._workers:
            outcome = timed_out(worker.request, worker.begun, self._timeout)
            if outcome is not None:
                self._end(worker)
                self._begun.discard(outcome.number)
                return outcome
        return None

    def _end(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker.actor, no_restart=True)

    def _say_what_is_missing(self) -> None:
        """Warn once if actors have been waiting for resources that no node of the cluster has."""
        now = time.monotonic()
        if self._said or all(worker.name or now - worker.created < WAITING_SECONDS for worker in self._workers):
            return
        if lacks := missing(self._ray, self._resources):
            self._said = True
            _log.warning("actors wait for a node with the resources %s; `ray status` shows what the cluster has", lacks)


def _line(error: Exception) -> str:
    """Return the message of an error in one line of at most 500 characters."""
    return " ".join(str(error).split())[:500]
