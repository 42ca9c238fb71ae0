"""The connection to a Ray cluster, and the resources of an evaluation."""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from automl_nas.errors import ConfigurationError

INSTALL = "pip install 'automl-nas[ray]'"

UNREACHABLE_SECONDS = 10.0
"""Seconds in which Ray finds out why an actor cannot be reached; after that its node counts as lost."""


def import_ray() -> Any:
    """Return the module ``ray``.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigurationError(
            f"Ray is not installed ({error}); it is an optional dependency: {INSTALL}", path="executor"
        ) from None


@dataclass(frozen=True)
class Resources:
    """What each evaluation reserves on its node.

    Attributes:
        num_cpus: CPU cores.
        num_gpus: GPUs; a fraction shares one GPU among several evaluations.
        memory: bytes; None: none are reserved.
        custom: resource -> amount, as nodes declare them.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory: float | None = None
    custom: Mapping[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Check the amounts by the rules of Ray.

        Raises:
            ConfigurationError: an amount is negative, or a number of GPUs above 1 is not whole.
        """
        amounts = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "memory": self.memory or 0.0}
        amounts |= {f"resources.{name}": amount for name, amount in self.custom.items()}
        for path, amount in amounts.items():
            if not 0.0 <= amount < float("inf"):
                raise ConfigurationError(f"must not be negative or infinite, but is {amount:g}", path=path)
        if self.num_gpus > 1 and not float(self.num_gpus).is_integer():
            raise ConfigurationError(
                f"must be a whole number or a fraction of one GPU, but is {self.num_gpus:g}", path="num_gpus"
            )
        for name in ("CPU", "GPU", "memory"):
            if name in self.custom:
                setting = "memory" if name == "memory" else f"num_{name.lower()}s"
                raise ConfigurationError(f"is given by the setting {setting}", path=f"resources.{name}")

    def options(self) -> dict[str, Any]:
        """Return the arguments of `ray.remote`."""
        options: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus}
        if self.memory is not None:
            options["memory"] = self.memory
        return {**options, "resources": dict(self.custom)} if self.custom else options

    def totals(self) -> dict[str, float]:
        """Return the amounts by the names that Ray gives to the resources of a cluster."""
        amounts = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory or 0.0, **self.custom}
        return {name: amount for name, amount in amounts.items() if amount}


def connect(address: str | None) -> Any:
    """Connect this process to a Ray cluster, if it is not connected; return the module ``ray``.

    Args:
        address: see `RayExecutor`.

    Raises:
        ConfigurationError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    # A library does not decide for its user to send statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        ray.init(address, namespace="automl_nas", log_to_driver=False, logging_level=logging.WARNING)
    except (Exception, SystemExit) as error:  # Ray ends the process if the cluster does not answer
        if isinstance(error, MemoryError):
            raise
        if isinstance(error, SystemExit):
            error = TimeoutError("it does not answer")
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        where = "a local Ray cluster cannot be started" if address is None else f"no Ray cluster at {address}"
        raise ConfigurationError(
            f"{where}: {reason}; start a cluster with `ray start --head`, or set address: local",
            path="executor.address",
        ) from error
    finally:
        if in_main and before is not None:  # Ray replaces the handler that stops the run at a safe point
            signal.signal(signal.SIGTERM, before)
    return ray


def node_is_lost(ray: Any, actor: Any, node: str, error: Exception) -> bool:
    """Whether the node of an actor was lost or cannot be reached: then no candidate is the cause.

    An actor cannot be reached before Ray has learned why, so it is asked again.

    Args:
        ray: the module.
        actor: Ray's handle.
        node: Ray's identifier of the node; empty if it is unknown.
        error: the answer of the actor.
    """
    errors = ray.exceptions
    if isinstance(error, errors.ActorUnavailableError):
        try:
            ray.get(actor.ping.remote(), timeout=UNREACHABLE_SECONDS)
        except errors.ActorDiedError:
            pass
        except errors.RayError:
            return True
        else:
            return True  # it can be reached again, and its answer was lost
    return node != "" and not any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes())


def missing(ray: Any, resources: Resources) -> str:
    """Return which resources no node of the cluster has in the needed amount, whether they are free or not; or ''."""
    nodes = [entry["Resources"] for entry in ray.nodes() if entry["Alive"]]
    needed = resources.totals()
    if any(all(node.get(name, 0.0) >= amount for name, amount in needed.items()) for node in nodes):
        return ""
    largest = {name: max((node.get(name, 0.0) for node in nodes), default=0.0) for name in needed}
    short = [name for name in needed if largest[name] < needed[name]] or list(needed)
    return ", ".join(f"{name}: {needed[name]:g} (the largest node has {largest[name]:g})" for name in short)
