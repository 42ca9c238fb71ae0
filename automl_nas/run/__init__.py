"""What drives a search and what survives it: configuration, run directory, ledger, checkpoints, artifacts, the driver.

Names are loaded when they are used: reading a run imports neither torch nor any plugin.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.run.api import open_run, resume, search
    from automl_nas.run.artifacts import RunArtifacts
    from automl_nas.run.builtin import complete_manager
    from automl_nas.run.checkpoints import Checkpoints
    from automl_nas.run.directory import RunDirectory
    from automl_nas.run.executors import Crash, Executor, InProcess
    from automl_nas.run.ledger import Ledger
    from automl_nas.run.plan import Plan, make_plan
    from automl_nas.run.reporter import Reporter
    from automl_nas.run.results import Candidate, Result
    from automl_nas.run.session import Session
    from automl_nas.run.workers import WorkerProcesses

_HOMES = {
    "search": "api",
    "resume": "api",
    "open_run": "api",
    "Session": "session",
    "Result": "results",
    "Candidate": "results",
    "Reporter": "reporter",
    "Plan": "plan",
    "make_plan": "plan",
    "complete_manager": "builtin",
    "RunDirectory": "directory",
    "Ledger": "ledger",
    "Checkpoints": "checkpoints",
    "RunArtifacts": "artifacts",
    "Executor": "executors",
    "Crash": "executors",
    "InProcess": "executors",
    "WorkerProcesses": "workers",
}

__all__ = [
    "search",
    "resume",
    "open_run",
    "Session",
    "Result",
    "Candidate",
    "Reporter",
    "Plan",
    "make_plan",
    "complete_manager",
    "RunDirectory",
    "Ledger",
    "Checkpoints",
    "RunArtifacts",
    "Executor",
    "Crash",
    "InProcess",
    "WorkerProcesses",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
