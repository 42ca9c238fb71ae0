"""Candidates that fail, are pruned or are slow, for the contract tests of executors and observers."""

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
"""The options of the first decision, ``d0``, by their effect on an evaluation."""


def failing_space(*, blocks: int = 3) -> ToySpace:
    """Return the space of the candidates; each decision has the options `GOOD`, `FAILING`, `PRUNING` and `SLOW`."""
    return ToySpace(blocks=blocks, options=4)


def failing_candidate(kind: int, last: int = 0) -> Architecture:
    """Return a candidate of the space with three blocks.

    Args:
        kind: `GOOD`, `FAILING`, `PRUNING` or `SLOW`.
        last: the option of the last decision, by which candidates of the same kind differ.
    """
    return Architecture({"d0": kind, "d1": 0, "d2": last})


@final
class FailingEvaluator(Evaluator):
    """Returns `toy_metric` with noise from the request's seed as ``accuracy``, and reports an intermediate value.

    Args:
        space: the space of `failing_space`.
        pause: the seconds that a `SLOW` candidate takes.
        interrupt: a file; if it exists, the next candidate removes it and interrupts the process.
    """

    def __init__(self, space: SearchSpace, *, pause: float = 0.0, interrupt: str = "") -> None:
        self._space, self._pause, self._interrupt = space, pause, interrupt

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Evaluate, fail, prune or wait, as the first decision says."""
        for request in requests:
            if self._interrupt and Path(self._interrupt).exists():
                Path(self._interrupt).unlink()
                raise KeyboardInterrupt
            value = toy_metric(request.architecture, self._space) + stream(request.seed, "noise").gauss(0.0, 0.01)
            kind = request.architecture["d0"]
            if kind == FAILING:
                raise EvaluationError("this candidate always fails")
            request.report(1, value / 2)
            if kind == PRUNING:
                raise Pruned
            if kind == SLOW:
                time.sleep(self._pause)
            yield Outcome(request.number, {"accuracy": value}, info={"note": f"seed {request.seed}"})


@final
class RandomProposals(AskTellStrategy):
    """Proposes random architectures, which do not depend on the trials.

    Args:
        space: the search space.
        seed: the seed of the proposals.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed, self._asked = space, seed, 0

    def ask(self, n: int) -> list[Proposal]:
        """Draw n architectures."""
        numbers = range(self._asked, self._asked + n)
        self._asked += n
        return [Proposal(self._space.sample(stream(self._seed, "drawn", number))) for number in numbers]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Ignore the trials."""

    def search_state(self) -> dict[str, Any]:
        """Return the number of proposals so far."""
        return {"asked": self._asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Set the number of proposals so far."""
        self._asked = state["asked"]
