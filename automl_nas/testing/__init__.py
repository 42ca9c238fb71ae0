"""What plugin authors import in their tests: contract test classes and toys.

Names are loaded when they are used, so importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.testing.strategies import AskTellContract, StrategyContract
    from automl_nas.testing.toys import ToyCost, ToyEvaluator, ToySpace, ToyTask, toy_metric, toy_optimum

_WHERE = {
    "AskTellContract": "strategies",
    "StrategyContract": "strategies",
    "ToyCost": "toys",
    "ToyEvaluator": "toys",
    "ToySpace": "toys",
    "ToyTask": "toys",
    "toy_metric": "toys",
    "toy_optimum": "toys",
}

__all__ = [
    "AskTellContract",
    "StrategyContract",
    "ToyCost",
    "ToyEvaluator",
    "ToySpace",
    "ToyTask",
    "toy_metric",
    "toy_optimum",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
