"""A target for what is left, reached by setting gamma: `Controller`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas_dso.live_structure import MEASURES

BEGIN, END = 0.2, 0.8
"""Between these shares of the steps of lambda the plan falls from everything to the target."""

LATE = 0.6
"""From this share of the steps on, lagging behind the plan makes gamma grow by `PUSH` at least."""

PUSH = 1.15
LARGEST_CHANGE = 2.0
"""By what factor gamma may change at once: drifts are measured, not known."""

AHEAD, WINDOW = 0.1, 0.05
"""Shares of the steps: how far ahead the plan is looked at, and over how many the drift of an edge is measured."""

UPDATES = 50
"""Gamma must be set so often at least for the factor of `LARGEST_CHANGE` to take it anywhere in time."""

MARGIN = 0.97
"""The plan ends a little below the target: a line that flattens there would be reached never."""

Share = Callable[[Tensor], float]
"""Which edges are alive, boolean -> the share of the measure that is left."""


@final
class Controller:
    """Sets gamma so that a measure of the live network falls along a plan to a target.

    The plan is a straight line from 1, at 20 % of the steps of lambda, to the target, at 80 %. Each time gamma is set,
    every edge is predicted R = 10 % of the steps ahead: its size fell by d a step lately, under a mean penalty gamma;
    were the loss to go on pulling as it did, a penalty g would take it to
    ``size - R * (d + eta * f * (g - gamma) / (1 - mu))`` (f: its factor), so it dies from its own critical g on. Edges
    are killed in the order of their critical values until the measure is on plan; gamma moves to the value of the
    last one, by a factor of 2 at most. If nothing need die gamma does not rise. From 60 % on it rises by 15 % at least
    while the measure is behind the plan. Nothing changes while the momentum builds up (2 / (1 - mu) steps).

    An edge that is dead twice in succession is to be removed for good (near 0 lambda comes and goes). Once what is left
    meets the target it is the result, and goes on training without a penalty.

    Args:
        target: measure (``edges``, ``flops``, ``memory_access``) -> the share of it that is to be left.
        steps: of lambda, in all.
        momentum: of lambda.

    Attributes:
        measure: what is counted.
        share: what is to be left of it.
        lasting: which edges were alive at the last update or the one before; the others are to be removed.
        reached: whether it was.

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
        self._seen: list[tuple[int, float, Tensor]] = []
        self.lasting = torch.ones(0, dtype=torch.bool)
        self.reached = False

    def first(self, rate: float) -> float:
        """Return the penalty to begin with: it takes a useless edge to 0 at the end of the plan."""
        return (1 - self._momentum) / (rate * max(1, math.ceil(END * self._steps)))

    @property
    def interval(self) -> int:
        """The largest number of steps that may lie between two updates."""
        return max(1, self._steps // UPDATES)

    def plan(self, step: float) -> float:
        """Return the share that is to be left after so many steps."""
        done = min(max((step / self._steps - BEGIN) / (END - BEGIN), 0.0), 1.0)
        return 1 - (1 - MARGIN * self.share) * done

    def update(self, sizes: Tensor, factors: Tensor, *, gamma: float, rate: float, step: int, share: Share) -> float:
        """Return the penalty for the next steps.

        Args:
            sizes: of lambda now, shape ``(number of edges,)``, on the CPU; 0: dead.
            factors: of the penalty, the same shape.
            gamma: the present penalty.
            rate: the learning rate of lambda.
            step: how many steps of lambda were made.
            share: measures.
        """
        sizes = sizes.double()
        self.lasting = (sizes > 0) | (self._seen[-1][2] > 0) if self._seen else torch.ones_like(sizes, dtype=torch.bool)
        left = share(self.lasting)
        if left <= self.share:
            self.reached = True
            return 0.0
        while len(self._seen) > 1 and self._seen[1][0] <= step - WINDOW * self._steps:
            self._seen.pop(0)
        past, self._seen = self._seen, [*self._seen, (step, gamma, sizes)]
        if not past or step * (1 - self._momentum) < 2:
            return gamma
        ahead = max(min(AHEAD * self._steps, self._steps - step), 1.0)
        # A penalty seen at a step was in force before it: since the snapshot before.
        mean = math.fsum(penalty for _, penalty, _ in self._seen[1:]) / len(past)
        drift = (past[0][2] - sizes) / (step - past[0][0])
        pull = rate * factors / (1 - self._momentum)
        critical = mean + (sizes / ahead - drift) / pull
        critical[pull == 0] = math.inf
        wanted = _killing(critical, self.lasting, share, self.plan(step + ahead))
        if wanted is None:
            wanted = min(gamma, float(critical[self.lasting].min()))
        if step >= LATE * self._steps and left > self.plan(step):
            wanted = max(wanted, PUSH * gamma)
        return min(max(wanted, gamma / LARGEST_CHANGE), gamma * LARGEST_CHANGE)

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured lately."""
        return {"seen": [list(each) for each in self._seen], "reached": self.reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._seen = [(step, gamma, sizes) for step, gamma, sizes in state["seen"]]
        self.reached = state["reached"]


def _killing(critical: Tensor, alive: Tensor, share: Share, limit: float) -> float | None:
    """Return the critical value of the last edge that must die for no more than the limit to be left; None: no one."""
    if share(alive) <= limit:
        return None
    places = alive.nonzero().flatten()
    order = places[critical[places].argsort(stable=True)]
    low, high = 0, len(order)  # killing `low` edges leaves too much, killing `high` as little as can be
    while high - low > 1:
        middle = (low + high) // 2
        rest = alive.clone()
        rest[order[:middle]] = False
        low, high = (low, middle) if share(rest) <= limit else (middle, high)
    return float(critical[order[high - 1]])
