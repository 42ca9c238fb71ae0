"""A run whose evaluations wait in a queue, for workers in the process of the test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from plugins.optuna.worker_processes import install

from automl_nas.evaluation.evaluator import Request
from automl_nas.plugin.manager import default_manager
from automl_nas.run import Plan, RunDirectory, complete_manager, make_plan
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas_optuna.workers.executor import OptunaExecutor
from automl_nas_optuna.workers.worker import Worker

RUN_QUEUE = "run/queue"

MODULE = """
from automl_nas.evaluation import Evaluator, Outcome, Runtime
from automl_nas.plugin import hookimpl
from automl_nas.space import Choice, DecisionSpace

OPTIONS = ("a", "b")

@hookimpl
def register_evaluators(register):
    register("runtime_metrics", f"{__name__}:RuntimeMetrics", summary="its threads, and whether it computes on the CPU")

@hookimpl
def register_spaces(register):
    register("letters", f"{__name__}:letters", summary="one choice")

def letters() -> DecisionSpace:
    return DecisionSpace({"letter": Choice(OPTIONS)})

class RuntimeMetrics(Evaluator):
    stochastic = False

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def evaluate(self, requests):
        for request in requests:
            cpu = float(self._runtime.device.type == "cpu")
            yield Outcome(request.number, {"threads": float(self._runtime.threads), "cpu": cpu})
"""


def install_plugin(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str = "1.0") -> None:
    """Install the plugin of this module, and the toy plugin, for this process."""
    environment = install(folder)
    info = folder / "measuring-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: measuring\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[automl_nas]\nmeasuring = measuring_plugin\n")
    (folder / "measuring_plugin.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "measuring_plugin", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", f"measuring,{environment['AUTOML_NAS_PLUGINS']}")
    forget_plugins()


def forget_plugins() -> None:
    """Make this process load its plugins again."""
    complete_manager.cache_clear()
    default_manager.cache_clear()


def configuration(storage: str, **sections: Any) -> dict[str, Any]:
    """Return the configuration of a search whose evaluator measures its runtime."""
    stage = {"name": "search", "strategy": "random", "evaluator": "runtime_metrics", "budget": {"trials": 2}}
    return {
        "space": "letters",
        "problem": {"objectives": {"threads": "maximize"}},
        "executor": {"name": "optuna", "storage": storage, "poll": 0.01},
        "stages": [stage],
        **sections,
    }


def begin(folder: Path, storage: str, *, grace: float = 60.0, **sections: Any) -> tuple[Plan, OptunaExecutor]:
    """Create a run directory and put one evaluation into the queue; return the plan and the executor."""
    plan = make_plan(configuration(storage, **sections), complete_manager().registry)
    directory = RunDirectory.create(folder / "run", plan.config, plan.identity)
    directory.unlock()
    executor = OptunaExecutor(storage=storage, poll=0.01, grace=grace)
    executor.open(StageEvaluator(plan, directory.path, 0), lambda numbers: None, None)
    executor.submit(Request(0, plan.space.validate({"letter": "a"}), seed=1))
    assert executor.next() is None
    return plan, executor


def work(storage: str, **arguments: Any) -> list[str]:
    """Run a worker until the queue is empty; return the lines that it prints."""
    lines: list[str] = []
    Worker(storage, None, say=lines.append, **{"idle": 0.3, "wait": 0.0, **arguments}).run()
    return lines
