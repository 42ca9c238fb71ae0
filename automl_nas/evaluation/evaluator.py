"""Evaluating candidates: `Request` in, `Outcome` out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Task


class State(StrEnum):
    """What became of a trial."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


def _ignore(step: int, value: float) -> None:
    """Report to nobody."""


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
    scratch: Path | None = None
    report: Callable[[int, float], None] = field(default=_ignore, compare=False, repr=False)


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
    """

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
