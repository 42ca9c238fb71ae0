"""The events of a run, as frozen data: a subscriber cannot change the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from automl_nas.strategy.trial import Trial

if TYPE_CHECKING:
    from automl_nas.strategy.problem import Direction


class FrozenDict(dict[str, Any]):
    """A dict that raises TypeError when it is changed; `json.dumps` and pickle accept it."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the data of an event is frozen: copy it to change it")

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
        worker=deep_freeze(trial.worker),
    )


@dataclass(frozen=True)
class RunInfo:
    """A run: its directory, configuration and objectives.

    Attributes:
        directory: the run directory; observers may read it and add files of their own.
        name: a short name for logs (default: the name of the directory).
        config: the resolved configuration.
        resumed: whether this process continues a run that an earlier process began.
        objectives: stage -> metric -> ``maximize`` or ``minimize``, the main one first.
    """

    directory: Path
    name: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False
    objectives: Mapping[str, Mapping[str, Direction]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.directory.name)
        object.__setattr__(self, "config", deep_freeze(self.config))
        object.__setattr__(self, "objectives", deep_freeze(self.objectives))


@dataclass(frozen=True)
class StepInfo:
    """The progress of a stage.

    Attributes:
        stage: the name of the stage.
        steps: number of steps of its strategy, including those before an interruption.
        trials: number of its trials that were submitted.
    """

    stage: str
    steps: int
    trials: int


@dataclass(frozen=True)
class ResultInfo:
    """The result of a run.

    Attributes:
        best: the trial that the problem of the last stage prefers; None if no trial is feasible.
        pareto: the trials that no other trial dominates, the best one in the first objective first.
        trials: number of trials of the whole run.
        result: the content of ``result.json``.
    """

    best: Trial | None = None
    pareto: tuple[Trial, ...] = ()
    trials: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "best", None if self.best is None else frozen_trial(self.best))
        object.__setattr__(self, "pareto", tuple(frozen_trial(trial) for trial in self.pareto))
        object.__setattr__(self, "result", deep_freeze(self.result))


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        name: of the event, in messages; if plugins can observe it, the name of the hook.
    """

    name: ClassVar[str] = "event"


@dataclass(frozen=True)
class RunStarted(Event):
    """A process begins or resumes the run.

    Attributes:
        run: the run.
    """

    name: ClassVar[str] = "search_started"
    run: RunInfo


@dataclass(frozen=True)
class StageStarted(Event):
    """A stage begins, or continues after an interruption.

    Attributes:
        stage: the name of the stage.
        position: of the stage, from 0.
        count: number of stages, including the final one.
    """

    name: ClassVar[str] = "stage_started"
    stage: str
    position: int
    count: int


@dataclass(frozen=True)
class StageFinished(Event):
    """A stage is complete.

    Attributes:
        stage: the name of the stage.
    """

    name: ClassVar[str] = "stage_finished"
    stage: str


@dataclass(frozen=True)
class ProgressMade(Event):
    """The present stage advanced.

    Attributes:
        done: the amount of work done.
        total: the whole amount; None if it is unknown.
        unit: of both, in the plural, such as ``trials`` or ``iterations``.
    """

    name: ClassVar[str] = "progress_made"
    done: float
    total: float | None
    unit: str


@dataclass(frozen=True)
class StepFinished(Event):
    """A strategy made a step.

    Attributes:
        run: the run.
        step: the progress of the stage.
    """

    name: ClassVar[str] = "step_finished"
    run: RunInfo
    step: StepInfo


@dataclass(frozen=True)
class NumbersLogged(Event):
    """A strategy logged numbers, such as a loss.

    Attributes:
        values: name -> number.
        step: the strategy's own count.
    """

    name: ClassVar[str] = "numbers_logged"
    values: Mapping[str, float]
    step: int


@dataclass(frozen=True)
class TrialFinished(Event):
    """A trial is recorded, in whatever state.

    Attributes:
        run: the run.
        trial: the trial, a frozen copy.
    """

    name: ClassVar[str] = "trial_finished"
    run: RunInfo
    trial: Trial


@dataclass(frozen=True)
class MessageSent(Event):
    """The run reports a fact that its user should know.

    Attributes:
        text: one line.
    """

    name: ClassVar[str] = "message_sent"
    text: str


@dataclass(frozen=True)
class WarningSent(Event):
    """The run repaired a fault, or continues in spite of it.

    Attributes:
        text: one line.
    """

    name: ClassVar[str] = "warning_sent"
    text: str


@dataclass(frozen=True)
class StopRequested(Event):
    """A signal asked the run to stop; it stops at the next safe point.

    Subscribers are called inside the signal handler: they must be brief and must not wait for locks.
    """

    name: ClassVar[str] = "stop_requested"


@dataclass(frozen=True)
class RunFinished(Event):
    """The run reached its result. A run that failed or was interrupted does not send this event.

    Attributes:
        run: the run.
        result: of the run.
    """

    name: ClassVar[str] = "search_finished"
    run: RunInfo
    result: ResultInfo


@dataclass(frozen=True)
class SessionEnded(Event):
    """This process stops working on the run: after its result, a failure or an interruption. Always the last event."""

    name: ClassVar[str] = "session_ended"


EVENTS: tuple[type[Event], ...] = tuple(Event.__subclasses__())
"""All kinds of events."""

Handlers: TypeAlias = Mapping[type[Event], Callable[[Any], object]]
"""A subscriber: kind of event -> function, called with each event of that kind. `Event` stands for all kinds."""
