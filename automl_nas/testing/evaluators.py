"""Contract tests of evaluators: `EvaluatorContract`.

Derive a class whose name begins with ``Test`` and implement `make_space` and `make_evaluator`.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.evaluation.task import Task
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.checkers import require_checker


class EvaluatorContract(ABC):
    """The tests of an `Evaluator`. Use a fast one: every candidate is evaluated several times.

    Attributes:
        samples: the number of candidates drawn.
        fidelity: the fidelity of the requests; None: the evaluator's default.
        taken_ahead: the number of requests it may take before the first outcome: 1 unless candidates share work.
    """

    samples: int = 3
    fidelity: float | None = None
    taken_ahead: int = 1

    @abstractmethod
    def make_space(self) -> SearchSpace:
        """Return the space of the candidates."""

    @abstractmethod
    def make_evaluator(self, space: SearchSpace) -> Evaluator:
        """Return the evaluator under test; all instances have the same settings."""

    def make_task(self) -> Task | None:
        """Return the task whose metrics it returns (default: None, no task)."""
        return None

    def requests(self, space: SearchSpace) -> list[Request]:
        """Return the requests of the tests."""
        return [
            Request(
                number,
                space.sample(stream(0, "contract", number)),
                seed=stream_seed(0, "contract-request", number),
                fidelity=self.fidelity,
            )
            for number in range(self.samples)
        ]

    def test_every_request_is_answered_once(self) -> None:
        """Outcomes have the numbers of the requests, finite metrics with the names of `metric_names`, and no error."""
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        outcomes = list(evaluator.evaluate(requests))
        assert sorted(outcome.number for outcome in outcomes) == [request.number for request in requests]
        names = evaluator.metric_names(self.make_task())
        for outcome in outcomes:
            assert outcome.state is State.COMPLETE, f"trial {outcome.number}: {outcome.error}"
            assert outcome.error == ""
            assert outcome.seconds >= 0
            assert outcome.metrics, "a complete outcome needs metrics"
            assert all(type(value) in (int, float) for value in outcome.metrics.values()), (
                "metrics must be of type int or float"
            )
            assert all(math.isfinite(value) for value in outcome.metrics.values())
            assert names is None or set(outcome.metrics) == names
        assert list(evaluator.evaluate([])) == []

    def test_metrics_depend_on_architecture_seed_and_fidelity_alone(self) -> None:
        """They do not depend on order, other requests, the number of the request, and earlier evaluations."""
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        together = _metrics(evaluator.evaluate(requests))
        assert _metrics(evaluator.evaluate(requests[::-1])) == together
        last = requests[-1]
        assert _metrics(evaluator.evaluate([last]))[last.number] == together[last.number]
        (renumbered,) = evaluator.evaluate([replace(last, number=last.number + 1000)])
        assert renumbered.metrics == together[last.number]

    def test_a_second_instance_returns_the_same(self) -> None:
        """Each worker process builds its own evaluator; their metrics are equal."""
        space = self.make_space()
        requests = self.requests(space)
        first = _metrics(self.make_evaluator(space).evaluate(requests))
        assert _metrics(self.make_evaluator(self.make_space()).evaluate(requests[::-1])) == first

    def test_requests_are_taken_when_they_are_needed(self) -> None:
        """The iterable may be infinite; a request is recorded as started when it is taken, so it is not taken early."""
        space = self.make_space()
        taken = 0

        def infinite_requests() -> Iterator[Request]:
            nonlocal taken
            while True:
                number = taken
                taken += 1
                request = self.requests(space)[number % self.samples]
                yield replace(request, number=number)

        outcomes = self.make_evaluator(space).evaluate(infinite_requests())
        assert taken == 0, "a request was taken before the first outcome was requested"
        for answered in range(2):
            next(outcomes)
            assert taken <= answered + self.taken_ahead

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """See `Evaluator.checker`."""
        require_checker(type(self.make_evaluator(self.make_space())))

    def test_the_global_generators_are_left_alone(self) -> None:
        """Evaluations neither advance nor seed the generators of Python, NumPy and torch."""
        space = self.make_space()
        evaluator, requests = self.make_evaluator(space), self.requests(space)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
        list(evaluator.evaluate(requests))
        assert random.getstate() == before[0], "the evaluation changed Python's generator"
        assert np.random.get_state()[1].tolist() == before[1], "the evaluation changed NumPy's generator"  # type: ignore[index]
        assert torch.equal(torch.get_rng_state(), before[2]), "the evaluation changed torch's generator"


def _metrics(outcomes: Iterator[Outcome]) -> dict[int, Mapping[str, float]]:
    return {outcome.number: dict(outcome.metrics) for outcome in outcomes}
