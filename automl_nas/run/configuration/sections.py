"""The shape of a configuration: its sections and their settings, before any component is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from automl_nas.errors import ConfigurationError
from automl_nas.plugin.schema import fields_of, model, refuse_unknown, values
from automl_nas.plugin.validation_errors import join, located

SettingsT = TypeVar("SettingsT")

DEFAULT_STAGES: tuple[Mapping[str, Any], ...] = (
    {"name": "supernet", "strategy": "single_path"},
    {"name": "search", "strategy": "evolution", "evaluator": {"name": "inherited", "weights": "supernet"}},
)
"""What a configuration without stages does: SPOS, by the names that its plugins register."""

DEFAULT_COSTS = ("flops", "params")
"""Costs recorded with every trial where they are registered and nothing else is asked for."""

DEFAULT_EXPORT = ("safetensors",)


@dataclass(frozen=True)
class RuntimeSettings:
    """Where and how tensors are computed.

    Attributes:
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        precision: ``float32``, ``bfloat16``, or ``auto``: a few steps of each are timed and the faster is recorded.
        memory_format: ``channels_last``, ``contiguous``, or ``auto``. On the CPU, strided 1x1 convolutions of fewer
            than 8 input channels compute on contiguous tensors whatever this says: oneDNN's kernel for channels_last
            is wrong there.
        threads: CPU threads of torch; null: what torch would take, which is recorded.
    """

    device: str = "auto"
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    memory_format: Literal["channels_last", "contiguous", "auto"] = "channels_last"
    threads: int | None = None


@dataclass(frozen=True)
class BudgetSettings:
    """When a stage ends, besides its strategy's own end; whatever comes first.

    Attributes:
        trials: so many trials.
        seconds: no new trials after so much time. Not reproducible.
        steps: so many steps of the strategy.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"a budget must be positive, not {value}", path=name)


@dataclass(frozen=True)
class StageSettings:
    """One stage.

    Attributes:
        name: unique; ``final`` is taken.
        strategy: a component.
        evaluator: a component; null: trials record costs only.
        problem: merged over the top-level problem.
        budget: when it ends.
        batch: how many trials the strategy is told at once.
        ahead: how many it keeps outstanding; null: ``batch``.
        timeout: seconds an evaluation may take; needs worker processes.
        max_failures: so many failed trials in a row end the run.
    """

    name: str
    strategy: Any
    evaluator: Any = None
    problem: dict[str, Any] = field(default_factory=dict)
    budget: BudgetSettings = BudgetSettings()
    batch: int = 1
    ahead: int | None = None
    timeout: float | None = None
    max_failures: int = 10

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise ConfigurationError(f"'{self.name}' is no name for a stage: letters, digits, '-' and '_'", path="name")
        if self.batch < 1:
            raise ConfigurationError(f"must be at least 1, not {self.batch}", path="batch")
        if self.ahead is not None and self.ahead < self.batch:
            raise ConfigurationError(f"must be at least batch ({self.batch}), not {self.ahead}", path="ahead")
        if self.max_failures < 1:
            raise ConfigurationError(f"must be at least 1, not {self.max_failures}", path="max_failures")
        if self.timeout is not None and self.timeout <= 0:
            raise ConfigurationError(f"must be positive, not {self.timeout}", path="timeout")


@dataclass(frozen=True)
class ProblemSettings:
    """What is wanted.

    Attributes:
        objectives: metric or cost -> ``maximize`` or ``minimize``, the main one first; empty: the task's first metric.
        constraints: metric or cost -> ``<= 330M``, ``280M..330M``, ``<= 0.5 * largest``; or ``{limit: ..., of:
            search}`` for the network as it is searched rather than the one that is delivered.
        costs: name -> cost model, recorded with every trial; a list of names will do. Those named in objectives and
            constraints need not be repeated.
    """

    objectives: dict[str, Literal["maximize", "minimize"]] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    costs: Any = None


@dataclass(frozen=True)
class RunSettings:
    """A whole configuration.

    Attributes:
        seed: of every random stream of the run.
        space: a component: what is searched.
        task: a component: data, loss and metrics; null for searches that need none.
        problem: objectives and constraints.
        runtime: device, precision, threads.
        stages: in order; null: SPOS.
        final: retraining, test and export; null: none. Left out: with its defaults where there is a task.
        executor: a component: where trials are evaluated. It does not change what is found.
        observers: components that watch the run. They do not change what is found.
        checkpoint_seconds: how much work may pass between checkpoints.
    """

    space: Any
    seed: int = 0
    task: Any = None
    problem: ProblemSettings = ProblemSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    stages: list[StageSettings] | None = None
    final: dict[str, Any] | None = None
    executor: Any = "in_process"
    observers: list[Any] = field(default_factory=list)
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigurationError(f"must not be negative, but is {self.seed}", path="seed")
        if self.checkpoint_seconds < 0:
            raise ConfigurationError(
                f"must not be negative, but is {self.checkpoint_seconds}", path="checkpoint_seconds"
            )
        if self.stages is not None:
            if not self.stages:
                raise ConfigurationError(
                    "at least one stage is needed; leave 'stages' out for the default (SPOS)", path="stages"
                )
            names = [stage.name for stage in self.stages]
            for position, name in enumerate(names):
                if name == "final":
                    raise ConfigurationError(
                        "the name 'final' is that of the last stage", path=f"stages[{position}].name"
                    )
                if name in names[:position]:
                    raise ConfigurationError(f"the name '{name}' stands twice", path=f"stages[{position}].name")


def read_settings(cls: type[SettingsT], given: Mapping[str, Any], path: str = "", owner: str = "") -> SettingsT:
    """Make a settings dataclass from what a user wrote.

    Raises:
        ConfigurationError: an unknown, missing or wrong setting, with its path and the nearest name.
    """
    from pydantic import ValidationError

    if not isinstance(given, Mapping):
        raise ConfigurationError(f"must be a mapping, not {given!r}", path=path)
    fields = fields_of(cls)
    try:
        refuse_unknown(given, fields, owner or f"'{path or 'the configuration'}'")
        checked = values(_model(cls).model_validate(dict(given)), fields)
        return cls(**checked)
    except ValidationError as error:
        raise located(error, given, path) from None
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=join(path, error.path)) from None


_MODELS: dict[type, Any] = {}


def _model(cls: type) -> Any:
    if cls not in _MODELS:
        _MODELS[cls] = model(fields_of(cls), cls.__name__)
    return _MODELS[cls]
