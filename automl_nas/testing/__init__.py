"""What plugin authors import in their tests: contract test classes and toys.

Names are loaded when they are used, so importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.testing.asktell import AskTellContract
    from automl_nas.testing.costs import CostModelContract
    from automl_nas.testing.evaluators import EvaluatorContract
    from automl_nas.testing.executors import ExecutorContract
    from automl_nas.testing.exporters import ExporterContract
    from automl_nas.testing.observers import ObserverContract
    from automl_nas.testing.plugins import PluginContract
    from automl_nas.testing.services import SimulatedServices, finished
    from automl_nas.testing.spaces import SearchSpaceContract, SupernetContract
    from automl_nas.testing.strategies import StrategyContract
    from automl_nas.testing.tasks import TaskContract
    from automl_nas.testing.toy_supernet import toy_supernet_space
    from automl_nas.testing.toys import ToyCost, ToyEvaluator, ToySpace, ToyTask, toy_metric, toy_optimum

_WHERE = {
    "AskTellContract": "asktell",
    "CostModelContract": "costs",
    "EvaluatorContract": "evaluators",
    "ExecutorContract": "executors",
    "ExporterContract": "exporters",
    "ObserverContract": "observers",
    "PluginContract": "plugins",
    "SearchSpaceContract": "spaces",
    "SimulatedServices": "services",
    "StrategyContract": "strategies",
    "SupernetContract": "spaces",
    "TaskContract": "tasks",
    "ToyCost": "toys",
    "ToyEvaluator": "toys",
    "ToySpace": "toys",
    "ToyTask": "toys",
    "finished": "services",
    "toy_metric": "toys",
    "toy_optimum": "toys",
    "toy_supernet_space": "toy_supernet",
}

__all__ = [
    "AskTellContract",
    "CostModelContract",
    "EvaluatorContract",
    "ExecutorContract",
    "ExporterContract",
    "ObserverContract",
    "PluginContract",
    "SearchSpaceContract",
    "StrategyContract",
    "SupernetContract",
    "TaskContract",
    "SimulatedServices",
    "ToyCost",
    "ToyEvaluator",
    "ToySpace",
    "ToyTask",
    "finished",
    "toy_metric",
    "toy_optimum",
    "toy_supernet_space",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
