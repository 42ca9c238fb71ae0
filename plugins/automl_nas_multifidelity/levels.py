"""Several evaluators in one: `Levels`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Evaluator, Outcome, Request, State, Task


class Levels(Evaluator):
    """Evaluators from cheap to thorough, such as inherited weights, a short training and a long one.

    The fidelity of a trial is the number of the evaluator: 1 for the first. So a multi-fidelity strategy with
    ``fidelities: [1, 2, 3]`` promotes candidates from one evaluator to the next. Trials of different evaluators are
    never compared with each other. Trials without a fidelity have the last evaluator.

    Candidates are compared by ``loss`` unless the configuration names objectives, as with `supernet_weights`.

    Args:
        evaluators: at least two. Each evaluates with its own settings; its default fidelity is used.

    Raises:
        ConfigurationError: there are fewer than two evaluators.
    """

    default_metric = "loss"

    def __init__(self, *, evaluators: list[Evaluator]) -> None:
        if len(evaluators) < 2:
            raise ConfigurationError(
                "must have at least two evaluators; name a single one in its place", path="evaluators"
            )
        self._evaluators = list(evaluators)

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Check that it is the number of an evaluator; see `Evaluator.check_fidelity`."""
        count = len(settings["evaluators"])
        if fidelity not in range(1, count + 1):
            raise ConfigurationError(f"the evaluator 'levels' has the fidelities 1 to {count}, one for each evaluator")

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return None: they depend on the evaluators."""
        return None

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order, one request at a time."""
        for request in requests:
            level = len(self._evaluators) if request.fidelity is None else request.fidelity
            if level != int(level) or not 1 <= level <= len(self._evaluators):
                reason = f"the fidelity must be the number of an evaluator, 1 to {len(self._evaluators)}, not {level:g}"
                yield Outcome(request.number, state=State.FAILED, error=reason)
                continue
            for outcome in self._evaluators[int(level) - 1].evaluate([replace(request, fidelity=None)]):
                yield replace(outcome, info={"level": int(level), **outcome.info})
