"""For the tests of plugins: contract test classes and toys.

Names load on first use: importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.testing.artifacts import MemoryArtifacts as MemoryArtifacts
    from automl_nas.testing.ask_tell import AskTellContract as AskTellContract
    from automl_nas.testing.commands import CommandContract as CommandContract
    from automl_nas.testing.contract import (
        BrokenClauseError as BrokenClauseError,
        Clause as Clause,
        Contract as Contract,
        clauses as clauses,
    )
    from automl_nas.testing.costs import CostModelContract as CostModelContract
    from automl_nas.testing.evaluators import EvaluatorContract as EvaluatorContract
    from automl_nas.testing.event_log import read_event_log as read_event_log
    from automl_nas.testing.executors import ExecutorContract as ExecutorContract
    from automl_nas.testing.exporters import ExporterContract as ExporterContract
    from automl_nas.testing.observers import ObserverContract as ObserverContract
    from automl_nas.testing.plugins import PluginContract as PluginContract
    from automl_nas.testing.pruners import PrunerContract as PrunerContract
    from automl_nas.testing.second_process import Origin as Origin
    from automl_nas.testing.services import SimulatedServices as SimulatedServices, finished as finished
    from automl_nas.testing.spaces import SearchSpaceContract as SearchSpaceContract
    from automl_nas.testing.strategies import StrategyContract as StrategyContract
    from automl_nas.testing.supernets import SupernetContract as SupernetContract
    from automl_nas.testing.tasks import TaskContract as TaskContract
    from automl_nas.testing.toy_plugin import installed_toys as installed_toys
    from automl_nas.testing.toy_supernet import toy_supernet_space as toy_supernet_space
    from automl_nas.testing.toys import (
        ToyCost as ToyCost,
        ToyEvaluator as ToyEvaluator,
        ToySpace as ToySpace,
        ToyTask as ToyTask,
        toy_metric as toy_metric,
        toy_optimum as toy_optimum,
    )

_HOMES = {
    "ask_tell": ("AskTellContract",),
    "commands": ("CommandContract",),
    "contract": (
        "BrokenClauseError",
        "Clause",
        "Contract",
        "clauses",
    ),
    "costs": ("CostModelContract",),
    "evaluators": ("EvaluatorContract",),
    "executors": ("ExecutorContract",),
    "exporters": ("ExporterContract",),
    "observers": ("ObserverContract",),
    "plugins": ("PluginContract",),
    "pruners": ("PrunerContract",),
    "spaces": ("SearchSpaceContract",),
    "supernets": ("SupernetContract",),
    "strategies": ("StrategyContract",),
    "tasks": ("TaskContract",),
    "second_process": ("Origin",),
    "services": (
        "SimulatedServices",
        "finished",
    ),
    "toys": (
        "ToyCost",
        "ToyEvaluator",
        "ToySpace",
        "ToyTask",
        "toy_metric",
        "toy_optimum",
    ),
    "toy_supernet": ("toy_supernet_space",),
    "toy_plugin": ("installed_toys",),
    "event_log": ("read_event_log",),
    "artifacts": ("MemoryArtifacts",),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
