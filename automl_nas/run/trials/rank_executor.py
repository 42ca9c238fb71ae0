"""Evaluations by the ranks of a run under torchrun: `RankExecutor`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, Literal, TypeAlias, final

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.ranks import Ranks, exchange_failed
from automl_nas.plugin.error_text import one_line
from automl_nas.run.trials.executor import Crash, EvaluatorSource, Executor
from automl_nas.run.trials.portable import read_outcome, serialize_outcome

Way: TypeAlias = Literal["spread", "together", "lead"]
"""``spread``: each rank evaluates other candidates. ``together``: all ranks evaluate the same candidate, as in
data-parallel training; the outcome of rank 0 counts. ``lead``: rank 0 evaluates it alone."""

ROUND_SECONDS = 5.0
"""A round has as many candidates for each rank as take about this time: candidates of a rank may share work, but a
process that dies loses the round."""

ROUND_CANDIDATES = 50
"""The largest number of candidates of a rank in a round."""


@final
class RankExecutor(Executor):
    """Evaluates with all ranks of a run.

    All ranks submit the same requests. At the end of a round all ranks learn all its outcomes, in the order of the
    requests. The ledger of rank 0 knows which evaluations a round began, whichever process dies.

    Args:
        own: evaluates the requests of this rank.
        ranks: of the run.
        way: who evaluates what.
    """

    def __init__(self, own: Executor, ranks: Ranks, way: Way) -> None:
        self._own, self._ranks = own, ranks
        self._parts = ranks.size if way == "spread" else 1
        self._place = ranks.rank if way == "spread" else 0
        self._idle = way == "lead" and ranks.rank > 0
        self._queue: deque[Request] = deque()
        self._round: list[Request] = []
        self._each = 1  # candidates of a rank in the next round

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        """Prepare for the evaluations of a stage; see `Executor.open`."""
        self._starting = starting
        self._own.open(source, _nothing, timeout)

    def submit(self, request: Request) -> None:
        """Accept a request; it is evaluated when `next_all` is called."""
        self._queue.append(request)

    def next(self) -> Outcome | Crash | None:
        """Do a round of one evaluation; see `Executor.next`."""
        events = self._do([self._queue.popleft()], 1) if self._queue else []
        return events[0] if events else None

    def next_all(self) -> Sequence[Outcome | Crash]:
        """Do a round of evaluations; see `Executor.next_all`."""
        each = min(self._each, -(-len(self._queue) // self._parts))
        return self._do([self._queue.popleft() for _ in range(min(each * self._parts, len(self._queue)))], each)

    def close(self) -> list[int]:
        """Drop waiting requests; see `Executor.close`."""
        begun = [request.number for request in self._round]
        self._own.close()
        self._round = []
        self._queue.clear()
        return begun

    def _do(self, requests: list[Request], each: int) -> list[Outcome | Crash]:
        if not requests:
            return []
        self._round = requests
        self._starting([request.number for request in requests])
        parts = [requests[first : first + each] for first in range(0, len(requests), each)]
        mine = parts[self._place] if self._place < len(parts) and not self._idle else []
        answers = self._ranks.gather(self._answers(mine))
        events = [event for rank, part in enumerate(parts) for event in _read(part, answers[rank], rank)]
        self._round = []
        seconds = sum(event.seconds for event in events if isinstance(event, Outcome))
        self._each = max(1, min(ROUND_CANDIDATES, int(ROUND_SECONDS * len(events) / max(seconds, 1e-9))))
        return events

    def _answers(self, requests: Sequence[Request]) -> dict[str, Any]:
        """Evaluate requests; return what happened with each, as the other ranks receive it."""
        answers: dict[int, dict[str, Any]] = {}
        try:
            for request in requests:
                self._own.submit(request)
            while len(answers) < len(requests):
                for event in self._own.next_all():
                    answers[event.number] = _written(event)
        except Exception as error:  # all ranks must raise it, or none
            if exchange_failed(error):
                raise
            return {"failed": one_line(error), "evaluated": []}
        keys = [request.architecture.key for request in requests]
        return {"failed": "", "evaluated": [[key, answers[r.number]] for key, r in zip(keys, requests, strict=True)]}


def _nothing(numbers: Sequence[int]) -> None:
    """The round was recorded as started."""


def _written(event: Outcome | Crash) -> dict[str, Any]:
    if isinstance(event, Crash):
        return {"number": event.number, "crashed": event.reason}
    plain = {name: _number(value) for name, value in event.metrics.items()}
    outcome = replace(event, metrics={name: value for name, value in plain.items() if isinstance(value, float)})
    if words := [f"{name} is {value}" for name, value in plain.items() if not isinstance(value, float)]:
        outcome = replace(outcome, state=State.FAILED, error=", ".join(words))
    try:
        return {"number": event.number, "outcome": serialize_outcome(outcome)}
    except (TypeError, RecursionError) as cause:
        raise EvaluationError(f"the info of trial {event.number} cannot be recorded: {cause}") from None


def _number(value: object) -> float | str:
    """Return a metric as a plain number, or what it is instead."""
    try:
        return float(plain_number(value))
    except TypeError as cause:
        return str(cause)
    except OverflowError:
        return "too large for a floating-point number"


def _read(requests: Sequence[Request], answer: Mapping[str, Any], rank: int) -> Iterator[Outcome | Crash]:
    """Yield the outcomes that a rank sent.

    Raises:
        EvaluationError: the rank could not evaluate, or evaluated other candidates.
    """
    if answer["failed"]:
        raise EvaluationError(f"rank {rank} cannot evaluate: {answer['failed']}")
    theirs = [(key, each["number"]) for key, each in answer["evaluated"]]
    ours = [(request.architecture.key, request.number) for request in requests]
    for (key, number), (their_key, their_number) in zip_longest(ours, theirs, fillvalue=("nothing", -1)):
        if (key, number) != (their_key, their_number):
            raise EvaluationError(
                f"the ranks evaluate different candidates: trial {number} is {key} here, and rank {rank} evaluated "
                f"{their_key}; the strategy is not a function of its seed and the trials (does it use hash(), the "
                "order of a set, a clock, or an unseeded generator?)"
            )
    for _, each in answer["evaluated"]:
        if "crashed" in each:
            yield Crash(each["number"], each["crashed"])
        else:
            yield read_outcome(each["number"], each["outcome"])
