"""EvaluationDispatcher that take their time in other processes, and are seen from here: `LoggingEvaluator`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, final

from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.evaluation.task import Task
from automl_nas.space.space import SearchSpace
from automl_nas.testing.toys import toy_metric


@dataclass(frozen=True)
class Note:
    """A line of the diary.

    Attributes:
        what: an evaluation's ``begin`` or ``end``.
        number: of the trial.
        process: where it happened.
        time: seconds since the epoch.
    """

    what: Literal["begin", "end"]
    number: int
    process: int
    time: float


@final
class LoggingEvaluator(Evaluator):
    """Gives `toy_metric` as ``accuracy``, after some sleep, and keeps a diary that several processes may write.

    Args:
        space: what is searched.
        diary: a file; it need not be there.
        seconds: how long an evaluation takes.
    """

    stochastic: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, *, diary: str, seconds: float) -> None:
        self._space, self._diary, self._seconds = space, diary, seconds

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Only the accuracy."""
        return frozenset({"accuracy"})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Sleep, and yield the closed form, for each request in order."""
        for request in requests:
            self._note("begin", request.number)
            time.sleep(self._seconds)
            self._note("end", request.number)
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self._space)})

    def _note(self, what: str, number: int) -> None:
        with Path(self._diary).open("a", encoding="utf-8") as file:
            file.write(f"{what} {number} {os.getpid()} {time.time()}\n")


def read_event_log(diary: Path) -> list[Note]:
    """Return what is in a diary; nothing, if it is not there yet."""
    lines = [line.split() for line in diary.read_text(encoding="utf-8").splitlines()] if diary.exists() else []
    return [
        Note("begin" if what == "begin" else "end", int(number), int(process), float(at))
        for what, number, process, at in lines
    ]
