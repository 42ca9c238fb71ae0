"""`LoggingEvaluator`: slow evaluations in several processes, which append events to a file."""

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
class LoggedEvent:
    """A line of the file.

    Attributes:
        what: ``begin`` or ``end`` of an evaluation.
        number: the number of the trial.
        process: the process id.
        time: seconds since the epoch.
    """

    what: Literal["begin", "end"]
    number: int
    process: int
    time: float


@final
class LoggingEvaluator(Evaluator):
    """Sleeps, returns `toy_metric` as ``accuracy``, and logs events to a file that several processes may write.

    Args:
        space: the search space.
        file: the file; it is created if it does not exist.
        seconds: the duration of an evaluation.
    """

    stochastic: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, *, file: str, seconds: float) -> None:
        self._space, self._file, self._seconds = space, file, seconds

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Sleep, and yield the metric of each request, in order."""
        for request in requests:
            self._log("begin", request.number)
            time.sleep(self._seconds)
            self._log("end", request.number)
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self._space)})

    def _log(self, what: str, number: int) -> None:
        with Path(self._file).open("a", encoding="utf-8") as file:
            file.write(f"{what} {number} {os.getpid()} {time.time()}\n")


def read_event_log(path: Path) -> list[LoggedEvent]:
    """Return the events in a file; an empty list if it does not exist yet."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [
        LoggedEvent("begin" if what == "begin" else "end", int(number), int(process), float(at))
        for what, number, process, at in lines
    ]
