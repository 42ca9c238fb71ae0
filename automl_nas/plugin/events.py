"""What observers are told: frozen data, so that watching a run cannot change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from automl_nas.strategy.trial import Trial


class FrozenDict(dict[str, Any]):
    """A dict that refuses to change, so that it can still be given to `json.dumps` or pickled."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("what observers are given is frozen: copy it to change it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[object, ...]:
        return FrozenDict, (dict(self),)


def deep_freeze(value: Any) -> Any:
    """Return a deep copy of JSON-like data that cannot be changed: `FrozenDict` for mappings, tuples for lists."""
    if isinstance(value, Mapping):
        return FrozenDict((key, deep_freeze(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(deep_freeze(item) for item in value)
    return value


def frozen_trial(trial: Trial) -> Trial:
    """Return a trial whose mappings are frozen copies."""
    return replace(
        trial,
        metrics=deep_freeze(trial.metrics),
        costs=deep_freeze(trial.costs),
        violations=deep_freeze(trial.violations),
        info=deep_freeze(trial.info),
    )


@dataclass(frozen=True)
class RunInfo:
    """Which run it is.

    Attributes:
        directory: the run directory; observers may read it and add files of their own.
        name: a short name for logs, the directory's by default.
        config: the resolved configuration.
        resumed: whether this process continues an earlier one.
        objectives: stage -> metric -> ``maximize`` or ``minimize``, the main one first.
    """

    directory: Path
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False
    objectives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.directory.name)
        object.__setattr__(self, "config", deep_freeze(self.config))
        object.__setattr__(self, "objectives", deep_freeze(self.objectives))


@dataclass(frozen=True)
class StepInfo:
    """How far a stage is.

    Attributes:
        stage: its name.
        steps: how many steps it has made, those before an interruption included.
        trials: how many trials of it are recorded.
    """

    stage: str
    steps: int
    trials: int


@dataclass(frozen=True)
class ResultInfo:
    """How a run ended.

    Attributes:
        best: the trial the problem prefers; None when no trial is feasible.
        pareto: the trials that no other dominates, best in the first objective first.
        trials: how many were recorded in the whole run.
        result: what ``result.json`` holds.
    """

    best: Trial | None = None
    pareto: tuple[Trial, ...] = ()
    trials: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "best", None if self.best is None else frozen_trial(self.best))
        object.__setattr__(self, "pareto", tuple(frozen_trial(trial) for trial in self.pareto))
        object.__setattr__(self, "result", deep_freeze(self.result))
