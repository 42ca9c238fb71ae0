"""What the core registers itself, through the same hooks as everybody: its two executors."""

from __future__ import annotations

import sys
from functools import cache

from automl_nas.plugin import Register, hookimpl
from automl_nas.plugin.manager import PluginManager, default_manager


@hookimpl
def register_executors(register: Register) -> None:
    """Register the executors of the core."""
    register(
        "in_process",
        "automl_nas.run.trials.executor:InProcess",
        summary="evaluates in the process of the run, one by one",
    )
    register(
        "processes", "automl_nas.run.trials.worker_processes:WorkerProcesses", summary="evaluates in worker processes"
    )


@cache
def complete_manager() -> PluginManager:
    """Return the process's plugin manager, with all installed plugins and the core's own components."""
    return with_builtin(default_manager())


def with_builtin(manager: PluginManager) -> PluginManager:
    """Add the core's own components to a manager that lacks them."""
    if "in_process" not in manager.registry.names("executors"):
        manager.register_module(sys.modules[__name__], "core")
    return manager
