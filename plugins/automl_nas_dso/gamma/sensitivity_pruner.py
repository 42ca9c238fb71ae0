"""Reaching a sparsity target by removing the edges to which the loss is least sensitive: `SensitivityPruner`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

DECAY = 0.98
"""Of the moving average of the gradient at each step of lambda: it covers about 50 steps."""


@final
class SensitivityPruner:
    """Removes edges in the order of ``|lambda * mean gradient|``, so that the live share follows a plan.

    To first order this is how much the loss changes when the edge is removed (Molchanov et al. 2017, arXiv 1611.06440,
    equation 7; SNIP, Lee et al. 2019, arXiv 1810.02340, on many batches instead of one). The gradient is averaged with
    its sign before the absolute value is taken, since the noise of batches would otherwise be taken for sensitivity.

    Args:
        edges: the number of edges.
    """

    def __init__(self, edges: int) -> None:
        self._mean = torch.zeros(edges, dtype=torch.float64)
        self._steps = 0

    def observe(self, gradient: Tensor) -> None:
        """Add the gradient of lambda of one step, shape ``(number of edges,)``."""
        self._mean = DECAY * self._mean + (1 - DECAY) * gradient.detach().double().cpu()
        self._steps += 1

    def sensitivities(self, values: Tensor) -> Tensor:
        """Return ``|lambda * mean gradient|`` of each edge, shape ``(number of edges,)``, float64, on the CPU."""
        correction = 1 - DECAY**self._steps if self._steps else 1.0
        return (values.detach().double().cpu() * self._mean / correction).abs()

    def survivors(self, values: Tensor, living: Tensor, share: Callable[[Tensor], float], limit: float) -> Tensor:
        """Return the edges that stay: the least sensitive ones are removed until the live share is at most a limit.

        Args:
            values: lambda, shape ``(number of edges,)``.
            living: which edges have not been removed, boolean, of the same shape, on the CPU.
            share: computes the live share of the measure from such a vector.
            limit: the largest allowed share.
        """
        if self._steps == 0 or share(living) <= limit:
            return living
        order = self.sensitivities(values).masked_fill(~living, -1.0).argsort(stable=True)
        order = order[living[order]]
        low, high = 0, len(order)  # without `low` edges the share is above the limit, without `high` it is not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if share(_without(living, order[:middle])) <= limit else (middle, high)
        return _without(living, order[:high])

    def state_dict(self) -> dict[str, Any]:
        """Return the moving average and the number of steps in it."""
        return {"mean": self._mean, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._mean, self._steps = state["mean"].cpu(), state["steps"]


def _without(living: Tensor, places: Tensor) -> Tensor:
    rest = living.clone()
    rest[places] = False
    return rest
