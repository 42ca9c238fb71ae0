"""A target for what is left, reached by setting gamma: `Controller`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas_dso.strategy_anatomy import MEASURES

REACHED_BY = 0.8
"""The target is aimed at after this share of the steps of lambda; the rest is for what was predicted wrongly."""

LARGEST_CHANGE = 2.0
"""By what factor gamma may change at once: the drift of an edge is known from few steps."""


@final
class Controller:
    """Sets gamma so that a measure of the live network reaches a target, by predicting where each edge is then.

    An edge's size fell by d a step since the last time, under a penalty gamma. Were the loss to go on pulling as it
    did, a penalty g would take it to ``size - R * (d + eta * f * (g - gamma) / (1 - mu))`` in R steps (f: its factor);
    so it dies from its own critical value of g on. The least g that leaves no more than the target alive is found by
    killing edges in the order of their critical values; gamma moves towards it, by a factor of 2 at most. R counts the
    steps to 80 % of the run, then those to its end. Nothing changes while the momentum builds up (2 / (1 - mu) steps).

    Once the target is met, what is dead is removed for good and gamma is 0, so that nothing more dies.

    Args:
        target: measure (``edges``, ``flops``, ``memory_access``) -> the share of it that is to be left.
        steps: of lambda, in all.
        momentum: of lambda.

    Raises:
        ConfigurationError: not one measure, an unknown one, or a share that is not between 0 and 1.
    """

    def __init__(self, target: Mapping[str, float], *, steps: int, momentum: float) -> None:
        if len(target) != 1:
            raise ConfigurationError("name one measure and its share, e.g. {flops: 0.4}", path="sparsity")
        ((self.measure, self.share),) = target.items()
        if self.measure not in MEASURES:
            raise ConfigurationError(
                f"there is no measure '{self.measure}'{did_you_mean(self.measure, MEASURES)}", path="sparsity"
            )
        if not 0 < self.share < 1:
            raise ConfigurationError(
                f"the share that is to be left lies between 0 and 1, not {self.share}", path=f"sparsity.{self.measure}"
            )
        self._steps, self._momentum = steps, momentum
        self._horizon = max(1, math.ceil(REACHED_BY * steps))
        self._last: Tensor | None = None
        self._last_step = 0
        self.reached = False

    def first(self, rate: float) -> float:
        """Return the penalty to begin with: the one that takes a useless edge to 0 at the horizon."""
        return (1 - self._momentum) / (rate * self._horizon)

    def update(
        self,
        sizes: Tensor,
        factors: Tensor,
        *,
        gamma: float,
        rate: float,
        step: int,
        share: Callable[[Tensor], float],
    ) -> float:
        """Return the penalty for the next steps.

        Args:
            sizes: of lambda now, shape ``(number of edges,)``, on the CPU; 0: dead.
            factors: of the penalty, the same shape.
            gamma: the present penalty.
            rate: the learning rate of lambda.
            step: how many steps of lambda were made.
            share: alive (boolean, the same shape) -> the share of the measure that is left.
        """
        sizes = sizes.double()
        if share(sizes > 0) <= self.share:
            self.reached = True
            return 0.0
        last, passed = self._last, step - self._last_step
        if step * (1 - self._momentum) < 2 or passed == 0:
            return gamma
        self._last, self._last_step = sizes, step
        if last is None:
            return gamma
        left = max((self._horizon if step < self._horizon else self._steps) - step, 1)
        pull = rate * factors / (1 - self._momentum)
        critical = gamma + (sizes / left - (last - sizes) / passed) / pull
        critical[pull == 0] = math.inf
        wanted = self._smallest(critical, sizes > 0, share)
        return min(max(wanted, gamma / LARGEST_CHANGE), gamma * LARGEST_CHANGE)

    def _smallest(self, critical: Tensor, alive: Tensor, share: Callable[[Tensor], float]) -> float:
        """Return the least penalty that leaves at most the target: the critical value of the last edge to die."""
        places = alive.nonzero().flatten()
        order = places[critical[places].argsort(stable=True)]
        low, high = 0, len(order)  # killing `low` edges leaves too much, killing `high` leaves little enough
        while high - low > 1:
            middle = (low + high) // 2
            rest = alive.clone()
            rest[order[:middle]] = False
            low, high = (low, middle) if share(rest) <= self.share else (middle, high)
        return float(critical[order[high - 1]])

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured last."""
        return {"last": self._last, "last_step": self._last_step, "reached": self.reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._last = None if state["last"] is None else torch.as_tensor(state["last"])
        self._last_step, self.reached = state["last_step"], state["reached"]
