"""Evaluating candidates: `Request` in, `Outcome` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from automl_nas.evaluation.checker import unchecked
from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Task


class State(StrEnum):
    """What became of a trial."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Reports:
    """Takes the intermediate values of one evaluation; they are recorded with its trial.

    Attributes:
        values: ``[step, value]`` in the order in which they were reported.
    """

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[list[float]] = []

    def __call__(self, step: int, value: float) -> None:
        """Remember a value."""
        self.values.append([int(step), float(value)])


class _Folder:
    """The field `Request.scratch`: a text becomes a Path when it is asked for, which most evaluators never do."""

    def __get__(self, request: Request | None, kind: type[Request]) -> Path | None:
        if request is None:
            return None  # the default
        folder = vars(request)["_scratch"]
        return None if folder is None else Path(folder)

    def __set__(self, request: Request, folder: str | Path | None) -> None:
        vars(request)["_scratch"] = folder


@dataclass(frozen=True)
class Request:
    """One candidate to evaluate.

    Attributes:
        number: the trial's number in the run.
        architecture: the candidate.
        fidelity: how thorough the evaluation shall be, in the evaluator's own unit (epochs, say); None: its default.
        seed: the only source of randomness of the evaluation.
        scratch: a folder that survives a crash until the outcome is recorded; None: nothing to resume from.
        report: ``report(step, value)`` gives an intermediate value; it may raise `Pruned`, which the evaluator lets
            through or turns into an outcome with state PRUNED.
    """

    number: int
    architecture: Architecture
    seed: int
    fidelity: float | None = None
    scratch: _Folder = _Folder()
    report: Callable[[int, float], None] = field(default_factory=Reports, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        number: that of the request.
        metrics: metric name -> value; empty unless COMPLETE (PRUNED may hold what is known).
        state: COMPLETE, PRUNED or FAILED.
        error: for FAILED, the reason in one line.
        seconds: how long it took, wall clock; 0 if it was not measured.
        info: anything JSON that is worth recording.
    """

    number: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: State = State.COMPLETE
    error: str = ""
    seconds: float = 0.0
    info: Mapping[str, object] = field(default_factory=dict)


class Evaluator(ABC):
    """Says what candidates are worth.

    COMPLETE metrics are a pure function of (architecture, seed, fidelity): never of the order, nor of the other
    requests. Collaborators (SearchSpace, Task, Runtime, Artifacts) come to the constructor by type; settings are
    keyword-only.

    Attributes:
        stochastic: whether an evaluation may draw from the global generators (Python's, NumPy's, torch's), which are
            then set from the request's seed before each. A table that is looked up says False: it saves more time
            than the look-up takes.
    """

    stochastic: ClassVar[bool] = True

    @abstractmethod
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield one outcome for each request, in any order, each as soon as it is known.

        ``requests`` is lazy: a request counts as started when it is taken from the iterable, so take one at a time
        unless work is shared. An exception fails the requests that were taken and not answered; each of them is then
        repeated alone before it is FAILED.
        """

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return the metrics it will give (default: the task's), or None if that cannot be known beforehand."""
        return frozenset(task.metrics) if task is not None else None

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return what checks the constructor's arguments before there is a run (default: nothing is checked).

        It is what `automl_nas.strategy.Strategy.checker` is for strategies: a function with some of the constructor's
        parameters, or the class itself, where constructing costs nothing and leaves nothing behind.
        """
        return unchecked
