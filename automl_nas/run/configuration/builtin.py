"""The components of the core, its two executors; they are registered through the hooks that plugins use."""

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
        summary="evaluates candidates one by one in the process of the run",
    )
    register(
        "processes",
        "automl_nas.run.trials.worker_processes:WorkerProcesses",
        summary="evaluates candidates in worker processes",
    )


@cache
def complete_manager() -> PluginManager:
    """Return the plugin manager of this process, with the installed plugins and the components of the core."""
    return with_builtin(default_manager())


def with_builtin(manager: PluginManager) -> PluginManager:
    """Register the components of the core with a manager, unless they are registered already."""
    if "in_process" not in manager.registry.names("executors"):
        manager.register_module(sys.modules[__name__], "core")
    return manager
