"""Zero-cost proxies as metrics: `ZeroCost`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Evaluator, Outcome, Request, Runtime, State, Task
from automl_nas.space import SearchSpace
from automl_nas.streams import stream_seed
from automl_nas_proxies.measuring import Proxy, check_space, check_task, first_batch, measure
from automl_nas_proxies.probe import Probe

# One seed for all evaluations of all runs: with another batch or other weights candidates could not be compared.
_SEED = 0


class ZeroCost(Evaluator):
    """Compute zero-cost proxies of each candidate with fresh weights, on one batch of training samples.

    Each proxy is a metric of its name, so a problem names one as its objective: ``objectives: {synflow: maximize}``.
    A value is a function of the architecture: all candidates have the same batch, and weights that are drawn from the
    same stream. A candidate with a value that is not finite is FAILED. Computed in float32 (`synflow` in float64),
    whatever the precision of the runtime.

    Args:
        space: builds the candidates.
        task: the batch and the loss.
        runtime: where the proxies are computed.
        proxies: names of proxies.
        images: number of samples in the batch.
        draws: number of draws of the fresh weights, over which each proxy is averaged.

    Raises:
        ConfigurationError: a setting is outside its range; the training split has fewer than ``images`` samples; or a
            proxy does not fit the task or the space: `epe_nas` needs classes, `jacov`, `epe_nas` and `zen` inputs that
            are no token numbers, `nwot` activations of the ReLU kind.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        runtime: Runtime,
        *,
        proxies: tuple[Proxy, ...],
        images: int = 64,
        draws: int = 1,
    ) -> None:
        _check(space, task, runtime, proxies=proxies, images=images, draws=draws)
        self._space, self._task, self._runtime = space, task, runtime
        self._proxies: tuple[str, ...] = tuple(dict.fromkeys(proxies))
        self._images, self._draws = images, draws

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the settings."""
        return _check

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Refuse every fidelity; see `Evaluator.check_fidelity`."""
        raise ConfigurationError("the evaluator 'zero_cost' has no fidelities: its numbers do not depend on one")

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return None: they depend on a setting."""
        return None

    @cached_property
    def _batch(self) -> tuple[Tensor, Tensor]:
        inputs, targets = first_batch(self._task, self._images, stream_seed(_SEED, "zero-cost"))
        return self._runtime.tensor(inputs), self._runtime.tensor(targets)

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order, one request at a time."""
        for request in requests:
            begun = time.perf_counter()
            totals = dict.fromkeys(self._proxies, 0.0)
            for draw in range(self._draws):
                for name, value in self._values(request, draw).items():
                    totals[name] += value / self._draws
            seconds = time.perf_counter() - begun
            if wrong := {name: value for name, value in totals.items() if not math.isfinite(value)}:
                error = ", ".join(f"{name} is {value}{_REASONS.get(name, '')}" for name, value in wrong.items())
                yield Outcome(request.number, state=State.FAILED, error=error, seconds=seconds)
            else:
                yield Outcome(request.number, totals, seconds=seconds)

    def _values(self, request: Request, draw: int) -> dict[str, float]:
        inputs, targets = self._batch
        with self._runtime.seeded(_SEED, "init", draw):
            network = self._runtime.place(self._space.build(request.architecture))
        with self._runtime.seeded(_SEED, "evaluation", draw):
            return measure(self._proxies, Probe(network, inputs, targets, self._task.loss))


_REASONS = {
    "nwot": " (two inputs switch the same units on, or the network has no activation of the ReLU kind; a space with "
    "such networks needs another proxy)",
}
"""Proxy -> what it means that a value is not finite."""


def _check(
    space: SearchSpace, task: Task, runtime: Runtime, *, proxies: tuple[Proxy, ...], images: int, draws: int
) -> None:
    """Check the numbers, then the proxies with one batch of the task and with random networks of the space."""
    if not proxies:
        raise ConfigurationError("name at least one proxy, such as [synflow, nwot]", path="proxies")
    for name, value, low in (("images", images, 2), ("draws", draws, 1)):
        if value < low:
            raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
    inputs = check_task(task, proxies, images)
    with runtime.seeded(_SEED, "check"):
        check_space(space, proxies, lambda network: inputs, [f"proxies[{number}]" for number in range(len(proxies))])
