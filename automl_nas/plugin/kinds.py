"""The kinds of components, and how their base classes are recognised without importing them."""

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
        noun: in messages, e.g. ``strategy``.
        base: the class that components derive from, ``package.module:Class``.
    """

    noun: str
    base: str

    @property
    def base_name(self) -> str:
        """The base class's own name."""
        return self.base.rpartition(":")[2]


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "spaces": Kind("space", "automl_nas.space.space:SearchSpace"),
        "strategies": Kind("strategy", "automl_nas.strategy.base:Strategy"),
        "evaluators": Kind("evaluator", "automl_nas.evaluation.evaluator:Evaluator"),
        "cost_models": Kind("cost model", "automl_nas.evaluation.costs.model:CostModel"),
        "tasks": Kind("task", "automl_nas.evaluation.task:Task"),
        "exporters": Kind("exporter", "automl_nas.evaluation.exporter:Exporter"),
        "executors": Kind("executor", "automl_nas.run.trials.executor:Executor"),
        "observers": Kind("observer", "automl_nas.plugin.observer:Observer"),
    }
)
"""Kind -> its noun and base class; ``register_<kind>`` is the hook that registers it."""

COLLABORATORS = (
    "automl_nas.space.space:SearchSpace",
    "automl_nas.strategy.problem:Problem",
    "automl_nas.evaluation.task:Task",
    "automl_nas.evaluation.runtime:Runtime",
    "automl_nas.evaluation.artifacts:Artifacts",
)
"""What a run can give to constructors."""


def derives(cls: type, base: str) -> bool:
    """Whether a class is, or derives from, the class ``package.module:Class``.

    By name, since asking must not import it (the runtime brings torch) and executors live in a higher layer.
    """
    return any(f"{parent.__module__}:{parent.__qualname__}" == base for parent in cls.__mro__)


def kind_of(cls: type) -> str | None:
    """Return the kind whose base class a class is or derives from, None if it is no component class."""
    return next((name for name, kind in KINDS.items() if derives(cls, kind.base)), None)


def produced_class(made_by: object) -> type | None:
    """Return the class that a class or a function makes; None if it is neither or its annotation cannot say."""
    if isinstance(made_by, type):
        return made_by
    if not inspect.isroutine(made_by):
        return None
    try:
        made = typing.get_type_hints(made_by).get("return")
    except (NameError, TypeError, AttributeError):
        return None
    return made if isinstance(made, type) else None
