"""Candidates of every fate, for the contracts of what surrounds a search: executors and observers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from automl_nas.errors import EvaluationError, Pruned
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing.toys import ToySpace, toy_metric

GOOD, FAILING, PRUNING, SLOW = range(4)
"""The options of the first decision, ``d0``, and what they do to an evaluation."""


def failing_space(*, blocks: int = 3) -> ToySpace:
    """Return the space of the candidates: each decision has an option for every fate."""
    return ToySpace(blocks=blocks, options=4)


def suspect(fate: int, last: int = 0) -> Architecture:
    """Return a candidate of the space with three blocks.

    Args:
        fate: `GOOD`, `FAILING`, `PRUNING` or `SLOW`.
        last: an option of the last decision, to tell candidates apart.
    """
    return Architecture({"d0": fate, "d1": 0, "d2": last})


@final
class FailingEvaluator(Evaluator):
    """Gives `toy_metric` as ``accuracy``, reports a value on the way, and draws noise from the request's seed.

    Args:
        space: that of `failing_space`.
        pause: how many seconds a `SLOW` candidate takes.
        interrupt: a file; the first candidate after it was made interrupts the process, and removes it.
    """

    def __init__(self, space: SearchSpace, *, pause: float = 0.0, interrupt: str = "") -> None:
        self._space, self._pause, self._interrupt = space, pause, interrupt

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Only the accuracy."""
        return frozenset({"accuracy"})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Let each candidate have its fate."""
        for request in requests:
            if self._interrupt and Path(self._interrupt).exists():
                Path(self._interrupt).unlink()
                raise KeyboardInterrupt
            value = toy_metric(request.architecture, self._space) + stream(request.seed, "noise").gauss(0.0, 0.01)
            fate = request.architecture["d0"]
            if fate == FAILING:
                raise EvaluationError("this candidate always fails")
            request.report(1, value / 2)
            if fate == PRUNING:
                raise Pruned
            if fate == SLOW:
                time.sleep(self._pause)
            yield Outcome(request.number, {"accuracy": value}, info={"note": f"seed {request.seed}"})


@final
class RandomProposals(AskTellStrategy):
    """Proposes architectures drawn at random, the same ones whatever it is told.

    Args:
        space: what is searched.
        seed: of the draws.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed, self._asked = space, seed, 0

    def ask(self, n: int) -> list[Proposal]:
        """Draw n."""
        numbers = range(self._asked, self._asked + n)
        self._asked += n
        return [Proposal(self._space.sample(stream(self._seed, "drawn", number))) for number in numbers]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def search_state(self) -> dict[str, Any]:
        """Return the count."""
        return {"asked": self._asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the count."""
        self._asked = state["asked"]
