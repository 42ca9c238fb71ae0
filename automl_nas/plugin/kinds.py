"""The kinds of components, and how a class is recognised as one of them without importing the base class."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Kind:
    """One kind of component.

    Attributes:
        noun: the kind's name in messages, e.g. ``strategy``.
        base: the class that components derive from, ``package.module:Class``.
    """

    noun: str
    base: str

    @property
    def base_name(self) -> str:
        """The name of the base class without its module."""
        return self.base.rpartition(":")[2]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "spaces": Kind("space", "automl_nas.space.space:SearchSpace"),
        "strategies": Kind("strategy", "automl_nas.strategy.base:Strategy"),
        "evaluators": Kind("evaluator", "automl_nas.evaluation.evaluator:Evaluator"),
        "pruners": Kind("pruner", "automl_nas.evaluation.pruner:Pruner"),
        "cost_models": Kind("cost model", "automl_nas.evaluation.costs.model:CostModel"),
        "tasks": Kind("task", "automl_nas.evaluation.task:Task"),
        "exporters": Kind("exporter", "automl_nas.evaluation.exporter:Exporter"),
        "executors": Kind("executor", "automl_nas.run.trials.executor:Executor"),
        "observers": Kind("observer", "automl_nas.plugin.observer:Observer"),
    }
)
"""Kind -> noun and base class; the hook ``register_<kind>`` registers components of the kind."""

COLLABORATORS = (
    "automl_nas.space.space:SearchSpace",
    "automl_nas.strategy.problem:Problem",
    "automl_nas.evaluation.task:Task",
    "automl_nas.evaluation.runtime:Runtime",
    "automl_nas.evaluation.artifacts:Artifacts",
)
"""The classes whose instances a run supplies to constructors."""


def derives(cls: type, base: str) -> bool:
    """Whether a class is, or derives from, the class ``package.module:Class``.

    Classes are compared by name: importing the base could import torch, and executors are in a higher layer.
    """
    return any(f"{parent.__module__}:{parent.__qualname__}" == base for parent in cls.__mro__)


def kind_of(cls: type) -> str | None:
    """Return the kind whose base class a class is or derives from; None for all other classes."""
    return next((name for name, kind in KINDS.items() if derives(cls, kind.base)), None)


def produced_class(factory: object) -> type | None:
    """Return the class of what a factory returns: a class itself, or a function's return annotation.

    None if the object is neither a class nor a function, or if the annotation is missing or is not a class.
    """
    if isinstance(factory, type):
        return factory
    if not inspect.isroutine(factory):
        return None
    try:
        returned = typing.get_type_hints(factory).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    return returned if isinstance(returned, type) else None
