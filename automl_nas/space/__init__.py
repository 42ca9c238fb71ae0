"""What can be searched: decisions, architectures, spaces, supernets, and the modules that make spaces of networks.

Names are loaded when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.space import operators
    from automl_nas.space.architecture import Architecture
    from automl_nas.space.choice import OneOf
    from automl_nas.space.dag import Dag
    from automl_nas.space.decision_space import DecisionSpace
    from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
    from automl_nas.space.elastic import ElasticBatchNorm2d, ElasticConv2d, ElasticLinear
    from automl_nas.space.module_space import ModuleSpace
    from automl_nas.space.selection import Weighted
    from automl_nas.space.space import SearchSpace, SupernetSpace
    from automl_nas.space.supernet import Segment, Supernet

_HOME = {
    "Architecture": "architecture",
    "Choice": "decisions",
    "Ordinal": "decisions",
    "Subset": "decisions",
    "Decision": "decisions",
    "DecisionSpace": "decision_space",
    "SearchSpace": "space",
    "SupernetSpace": "space",
    "Supernet": "supernet",
    "Segment": "supernet",
    "Weighted": "selection",
    "ModuleSpace": "module_space",
    "OneOf": "choice",
    "Dag": "dag",
    "ElasticConv2d": "elastic",
    "ElasticBatchNorm2d": "elastic",
    "ElasticLinear": "elastic",
}

__all__ = [
    "Architecture",
    "Choice",
    "Ordinal",
    "Subset",
    "Decision",
    "DecisionSpace",
    "SearchSpace",
    "SupernetSpace",
    "Supernet",
    "Segment",
    "Weighted",
    "ModuleSpace",
    "OneOf",
    "Dag",
    "ElasticConv2d",
    "ElasticBatchNorm2d",
    "ElasticLinear",
    "operators",
]


def __getattr__(name: str) -> object:
    if name == "operators":
        return importlib.import_module("automl_nas.space.operators")
    if name in _HOME:
        return getattr(importlib.import_module(f"automl_nas.space.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
