"""The sections of a configuration and their settings; they are checked before any component is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from automl_nas.errors import ConfigurationError
from automl_nas.plugin.schema import fields_of, model, refuse_unknown, values
from automl_nas.plugin.validation_errors import join, located

SettingsT = TypeVar("SettingsT")

DEFAULT_STAGES: tuple[Mapping[str, Any], ...] = (
    {"name": "supernet", "strategy": "single_path"},
    {"name": "search", "strategy": "evolution", "evaluator": {"name": "supernet_weights", "weights": "supernet"}},
)
"""The stages of a configuration without ``stages``: SPOS, by the registered names of its components."""

DEFAULT_COSTS = ("flops", "params")
"""Costs that are recorded with every trial if the problem names none, as far as they are registered."""

DEFAULT_EXPORT = ("safetensors",)


@dataclass(frozen=True)
class RuntimeSettings:
    """Where and how tensors are computed.

    Attributes:
        device: ``auto`` (a GPU if the machine has one), ``cpu``, ``cuda``, ``cuda:1``, ... Under torchrun, ``auto`` and
            ``cuda`` give each rank its own GPU.
        precision: ``float32``, ``bfloat16``, ``float16`` (CUDA devices only; losses are scaled), or ``auto``: a few
            training steps in float32 and bfloat16 are timed, and the faster one is recorded.
        memory_format: ``channels_last``, ``contiguous``, or ``auto`` as for ``precision``. On the CPU, strided 1x1
            convolutions with fewer than 8 input channels always compute on contiguous tensors, since oneDNN's kernel
            for channels_last is wrong there.
        threads: CPU threads of torch; null: torch's default, which is recorded.
        data_megabytes: data sets in memory up to this size (1e6 bytes) are copied to the device once, unless it is the
            CPU, instead of batch by batch; 0: never. It does not change the result.
        sync_batch_norm: under torchrun on GPUs, whether batch normalisation in training uses the statistics of the
            whole batch instead of those of each rank's part.
    """

    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16", "auto"] = "float32"
    memory_format: Literal["channels_last", "contiguous", "auto"] = "channels_last"
    threads: int | None = None
    data_megabytes: float = 1024.0
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class BudgetSettings:
    """When a stage ends before its strategy is done: at the first of these that is reached.

    Attributes:
        trials: maximum number of trials.
        seconds: time after which no trial is started. The result is then not reproducible.
        steps: maximum number of steps of the strategy.
        extended_at: numbers of trials at which the stage ended before `automl-nas extend` extended it; the command
            writes them. No batch of proposals goes beyond one of them, so that the recorded trials are proposed again.
    """

    trials: int | None = None
    seconds: float | None = None
    steps: int | None = None
    extended_at: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigurationError(f"a budget must be positive, not {value}", path=name)


@dataclass(frozen=True)
class RunBudgetSettings:
    """A time budget for the whole run.

    Attributes:
        minutes: the largest duration of the run. If the estimate of `automl-nas plan` exceeds it, stages are shortened
            before the run begins: trainings of supernets and of the final stage to fewer epochs, searches to fewer
            trials, all to about the same share. What the configuration says is never exceeded.
        shortened: the settings that were shortened, with the values ``written`` and ``used``; the run writes them, and
            is not shared out again.
    """

    minutes: float
    shortened: dict[str, dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.minutes < math.inf:
            raise ConfigurationError(f"a budget must be positive and finite, not {self.minutes}", path="minutes")


@dataclass(frozen=True)
class StageSettings:
    """One stage.

    Attributes:
        name: unique in the run; not ``final``, which is the name of the final stage.
        strategy: a component: what proposes architectures or trains a supernet.
        evaluator: a component: what measures candidates; null: trials record costs only.
        pruner: a component: what stops evaluations whose intermediate values are poor; null: nothing.
        problem: merged over the top-level problem.
        budget: when the stage ends before its strategy is done.
        batch: number of trials that the strategy receives at once.
        ahead: number of proposals that are outstanding at the same time; null: ``batch``.
        timeout: maximum seconds for one evaluation; needs worker processes. null: no maximum.
        max_failures: consecutive failed trials after which the run is aborted.
    """

    name: str
    strategy: Any
    evaluator: Any = None
    pruner: Any = None
    problem: dict[str, Any] = field(default_factory=dict)
    budget: BudgetSettings = BudgetSettings()
    batch: int = 1
    ahead: int | None = None
    timeout: float | None = None
    max_failures: int = 10

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").replace("-", "").isalnum():
            raise ConfigurationError(
                f"the name of a stage has letters, digits, '-' and '_' only, not '{self.name}'", path="name"
            )
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
    """Objectives, constraints and costs.

    Attributes:
        objectives: metric or cost -> ``maximize`` or ``minimize``, the primary objective first; empty: the metric that
            the evaluator of a stage prefers (``loss`` for `supernet_weights`), or the first metric of the task.
        constraints: metric or cost -> ``<= 330M``, ``280M..330M``, ``<= 0.5 * largest``; or ``{limit: ..., of:
            search}`` for a limit on the network in the search space instead of the delivered network.
        costs: name -> cost model, or a list of cost models: recorded with every trial. Costs that objectives and
            constraints name are added. null: ``flops`` and ``params``.
    """

    objectives: dict[str, Literal["maximize", "minimize"]] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    costs: Any = None


@dataclass(frozen=True)
class RunSettings:
    """A whole configuration.

    Attributes:
        seed: the seed of every random stream of the run.
        space: a component: the search space. It may also have ``initial_weights``, the default of every setting of that
            name in the stages.
        task: a component: data, loss and metrics; null: the search needs no task.
        problem: objectives, constraints and costs.
        runtime: device, precision, memory format and threads.
        stages: the stages in order; null: SPOS.
        final: the final stage, which retrains, tests and exports; null: no final stage. If ``final`` is left out, a
            run with a task has a final stage with the defaults.
        executor: a component: where candidates are evaluated. It does not change the result.
        observers: components that are notified of events. They do not change the result.
        checkpoint_seconds: seconds of work between two checkpoints.
        budget: a time budget for the whole run, shared out among the stages; null: none.
        smoke_above_minutes: a new run that may take longer first does some steps of every stage, every check and every
            export in a temporary directory, so that what fails does so in the first minutes. It does not change the
            result. null: never.
        check_networks: maximum number of networks that are run on zeros before the run, to check that the options of
            the space fit together: networks that have every option of each decision, then every pair of options of
            two decisions, near decisions first. 0: none.
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
    budget: RunBudgetSettings | None = None
    smoke_above_minutes: float | None = 60.0
    check_networks: int = 64

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigurationError(f"must not be negative, but is {self.seed}", path="seed")
        if self.checkpoint_seconds < 0:
            raise ConfigurationError(
                f"must not be negative, but is {self.checkpoint_seconds}", path="checkpoint_seconds"
            )
        if self.smoke_above_minutes is not None and not self.smoke_above_minutes >= 0:
            raise ConfigurationError(
                f"must not be negative, but is {self.smoke_above_minutes}", path="smoke_above_minutes"
            )
        if self.check_networks < 0:
            raise ConfigurationError(f"must not be negative, but is {self.check_networks}", path="check_networks")
        if self.stages is not None:
            if not self.stages:
                raise ConfigurationError(
                    "at least one stage is needed; leave 'stages' out for the default (SPOS)", path="stages"
                )
            names = [stage.name for stage in self.stages]
            for position, name in enumerate(names):
                if name == "final":
                    raise ConfigurationError(
                        "the name 'final' is reserved for the final stage; use another one",
                        path=f"stages[{position}].name",
                    )
                if name in names[:position]:
                    raise ConfigurationError(f"two stages have the name '{name}'", path=f"stages[{position}].name")


def read_settings(cls: type[SettingsT], section: Mapping[str, Any], path: str = "", owner: str = "") -> SettingsT:
    """Validate a section that a user wrote, and return it as its settings dataclass.

    Args:
        cls: a frozen dataclass; its fields are the settings.
        section: setting -> value, as written.
        path: of the section in the configuration; empty: the top level.
        owner: what an error calls the section; by default its path.

    Raises:
        ConfigurationError: a setting is unknown, missing or invalid; with its path and the nearest name.
    """
    from pydantic import ValidationError

    if not isinstance(section, Mapping):
        raise ConfigurationError(f"must be a mapping, not {section!r}", path=path)
    fields = fields_of(cls)
    try:
        refuse_unknown(section, fields, owner or f"'{path or 'the configuration'}'")
        checked = values(_model(cls).model_validate(dict(section)), fields)
        return cls(**checked)
    except ValidationError as error:
        raise located(error, section, path) from None
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=join(path, error.path)) from None


_MODELS: dict[type, Any] = {}


def _model(cls: type) -> Any:
    if cls not in _MODELS:
        _MODELS[cls] = model(fields_of(cls), cls.__name__)
    return _MODELS[cls]
