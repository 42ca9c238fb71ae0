"""What a candidate is worth: tasks, training, evaluators, costs.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.evaluation.artifacts import Artifacts
    from automl_nas.evaluation.budgets import Best, Limit, best_within
    from automl_nas.evaluation.cost import CostModel
    from automl_nas.evaluation.cost_table import CostTable, NotAdditiveError
    from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
    from automl_nas.evaluation.exporter import Delivery, Exporter
    from automl_nas.evaluation.measured import MeasuredCost, Measurement
    from automl_nas.evaluation.recalibration import recalibrate
    from automl_nas.evaluation.recipe import Recipe
    from automl_nas.evaluation.runtime import Runtime
    from automl_nas.evaluation.tabulated import Extremes, TabulatedCost
    from automl_nas.evaluation.task import Task
    from automl_nas.evaluation.training import Fit, Progress, score
    from automl_nas.evaluation.tuning import tune

__all__ = [
    "Task",
    "Runtime",
    "tune",
    "Recipe",
    "Fit",
    "Progress",
    "recalibrate",
    "score",
    "Evaluator",
    "Request",
    "Outcome",
    "State",
    "CostModel",
    "MeasuredCost",
    "Measurement",
    "CostTable",
    "NotAdditiveError",
    "best_within",
    "Limit",
    "Best",
    "TabulatedCost",
    "Extremes",
    "Artifacts",
    "Exporter",
    "Delivery",
]

_HOMES = {
    "Task": "task",
    "Runtime": "runtime",
    "tune": "tuning",
    "Recipe": "recipe",
    "Fit": "training",
    "Progress": "training",
    "recalibrate": "recalibration",
    "score": "training",
    "Evaluator": "evaluator",
    "Request": "evaluator",
    "Outcome": "evaluator",
    "State": "evaluator",
    "CostModel": "cost",
    "MeasuredCost": "measured",
    "Measurement": "measured",
    "CostTable": "cost_table",
    "NotAdditiveError": "cost_table",
    "TabulatedCost": "tabulated",
    "Extremes": "tabulated",
    "best_within": "budgets",
    "Limit": "budgets",
    "Best": "budgets",
    "Artifacts": "artifacts",
    "Exporter": "exporter",
    "Delivery": "exporter",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
