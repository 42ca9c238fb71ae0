"""Evaluators: they receive a `Request` and return an `Outcome`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from automl_nas.evaluation.checker import unchecked
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.shortened import Shortened
from automl_nas.fast_dataclass import LazyPath
from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Task


class State(StrEnum):
    """The state of a trial after its evaluation."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Reports:
    """Collects the intermediate values of one evaluation, which are recorded with its trial.

    Attributes:
        values: ``[step, value]`` in the order of the reports.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[list[float]] = []

    def __call__(self, step: int, value: float) -> None:
        """Append a value.

        Raises:
            TypeError: the value is not a number.
        """
        self.values.append([int(step), float(plain_number(value))])


@dataclass(frozen=True)
class EarlierTrial:
    """A trial of a stage as its pruner sees it when it judges a later one.

    Attributes:
        number: the position of the trial in its stage, from 0.
        state: COMPLETE, PRUNED or FAILED.
        value: the first objective; None unless it is COMPLETE.
        reports: (step, value) of its intermediate values, in order.
        notes: what its judge noted.
    """

    number: int
    state: State
    value: float | None
    reports: tuple[tuple[int, float], ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What a pruner compares a trial with.

    Attributes:
        number: the position of the trial in its stage, from 0.
        trials: those of the stage with the same fidelity that its strategy had received when the trial was proposed.
    """

    number: int
    trials: tuple[EarlierTrial, ...]


@dataclass(frozen=True)
class Request:
    """One candidate to evaluate.

    Attributes:
        number: the number of the trial in the run.
        architecture: the candidate.
        fidelity: how thorough the evaluation is, in a unit of the evaluator (e.g. epochs); None: its default.
        seed: the only source of randomness of the evaluation.
        scratch: a folder that is kept until the outcome is recorded, also after a crash; None: the evaluation cannot be
            resumed.
        report: ``report(step, value)`` reports an intermediate value of the first objective (the evaluator finds it in
            `Problem`), or of the first metric of the task if the objective is not measured. It may raise `Pruned`,
            which the evaluator passes on or turns into an outcome with state PRUNED.
        earlier: what the pruner of the stage compares the trial with; None: the stage has no pruner.
    """

    number: int
    architecture: Architecture
    seed: int
    fidelity: float | None = None
    scratch: LazyPath = LazyPath()  # noqa: RUF009 - a descriptor, one for the class
    report: Callable[[int, float], None] = field(default_factory=Reports, compare=False, repr=False)
    earlier: Earlier | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """The result of an evaluation.

    Attributes:
        number: the number of the request.
        metrics: metric name -> value; empty if FAILED. A PRUNED outcome may hold the metrics measured so far.
        state: COMPLETE, PRUNED or FAILED.
        error: the reason in one line, if FAILED.
        seconds: the duration, wall clock; 0 if it was not measured.
        info: JSON values that are recorded with the trial.
        worker: where it was measured, if an executor has processes on other machines: ``host``, ``process``, ``device``
            and ``versions`` (see `describe_worker`); evaluators leave it empty.
    """

    number: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: State = State.COMPLETE
    error: str = ""
    seconds: float = 0.0
    info: Mapping[str, object] = field(default_factory=dict)
    worker: Mapping[str, object] = field(default_factory=dict)


class Evaluator(ABC):
    """Measures candidates.

    COMPLETE metrics are a pure function of (architecture, seed, fidelity): they depend neither on the order nor on
    other requests. The constructor receives collaborators (SearchSpace, Task, Runtime, Artifacts) by type; settings are
    keyword-only.

    Attributes:
        stochastic: whether an evaluation may draw from the global generators of Python, NumPy and torch, which are then
            set from the request's seed before each evaluation. An evaluator that uses no random numbers, such as a
            table, sets it to False: setting the generators takes longer than a look-up.
        default_metric: the metric of the task by which candidates are compared if neither the stage nor the run names
            objectives; None, or a metric that the task does not have: the first metric of the task.
        taken_ahead: the largest number of requests that it takes before it yields an outcome: 1 unless they share work.
            An instance may have another number than its class.
    """

    stochastic: ClassVar[bool] = True
    default_metric: ClassVar[str | None] = None
    taken_ahead: int = 1

    @abstractmethod
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield one outcome for each request, in any order, each as soon as it is ready.

        ``requests`` is lazy: a request is recorded as started when it is taken from the iterable, so take one at a time
        unless requests share work. If an exception is raised, each request that was taken and has no outcome is
        repeated alone; it is FAILED if that raises an exception, too.
        """

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return the names of the metrics (default: those of the task), or None if they depend on the evaluation."""
        return frozenset(task.metrics) if task is not None else None

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return a function that checks constructor arguments before the run (default: a function without checks).

        As `automl_nas.strategy.Strategy.checker`: a function with some of the constructor's parameters, or the class
        itself if constructing it is fast and has no side effects.
        """
        return unchecked

    @classmethod  # noqa: B027 - a default: all are accepted
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Check, before the run, a fidelity that the stage's strategy will ask for (default: all are accepted).

        Args:
            settings: the resolved settings of the evaluator.
            fidelity: as `Request.fidelity`.

        Raises:
            ConfigurationError: evaluations cannot have this fidelity, or it makes no difference to them.
        """

    @classmethod
    def data_parallel(cls, settings: Mapping[str, Any]) -> bool:
        """Return whether, under torchrun, all ranks do each evaluation together (default: False).

        False: candidates are spread over the ranks, and each evaluation has the runtime of a single process. True: all
        ranks evaluate the same candidate, with the runtime of the group; the outcome of rank 0 counts.

        Args:
            settings: the resolved settings of the evaluator.
        """
        return False

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened | None:
        """Return settings with which an evaluation does at most a share of its work, but not nothing.

        The first steps of a run, which `automl-nas plan` and a smoke run do, evaluate with the least work: one epoch of
        many, for example. By default they do a whole evaluation.

        Args:
            settings: the resolved settings of the evaluator.
            share: above 0, at most 1.
        """
        return None
