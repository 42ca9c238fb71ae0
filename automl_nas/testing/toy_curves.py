"""An evaluator with learning curves in closed form, for tests of pruners: `ToyCurves`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import final

from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.evaluation.task import Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing.toys import toy_metric


def toy_curve(architecture: Architecture, space: SearchSpace, seed: int, steps: int) -> list[float]:
    """Return the accuracies after 1, 2, ... steps: they approach `toy_metric`, with noise from the seed."""
    final_value = toy_metric(architecture, space)
    return [
        final_value * step / (step + 2) + stream(seed, "toy curve", step).gauss(0, 0.02) for step in range(1, steps + 1)
    ]


@final
class ToyCurves(Evaluator):
    """Reports the values of `toy_curve`; the last one is the metric ``accuracy``.

    Args:
        space: the search space.
        steps: the number of reports; a request's fidelity replaces it.
    """

    stochastic = False

    def __init__(self, space: SearchSpace, *, steps: int = 9) -> None:
        self._space, self._steps = space, steps

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the last value of each curve, in order."""
        for request in requests:
            steps = self._steps if request.fidelity is None else int(request.fidelity)
            curve = toy_curve(request.architecture, self._space, request.seed, steps)
            for step, value in enumerate(curve, start=1):
                request.report(step, value)
            yield Outcome(request.number, {"accuracy": curve[-1]})

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})
