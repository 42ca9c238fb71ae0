"""Reaching a sparsity target by adjusting gamma: `SparsityController`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas_dso.live_structure import MEASURES

BEGIN, END = 0.2, 0.8
"""Shares of the steps of lambda between which the planned share falls from 1 to the target."""

LATE = 0.6
"""From this share of the steps on, gamma grows at least by `PUSH` while more is alive than planned."""

PUSH = 1.15
LARGEST_CHANGE = 2.0
"""Largest factor of one change of gamma: the drifts it is computed from are estimates."""

AHEAD, WINDOW = 0.1, 0.05
"""Shares of the steps: how far ahead edges are predicted, and over how many steps their drift is measured."""

UPDATES = 50
"""Smallest number of updates of gamma in a search, so that changes by `LARGEST_CHANGE` suffice."""

MARGIN = 0.97
"""The plan ends at this multiple of the target: a curve that flattens at the target itself might not reach it."""

Share = Callable[[Tensor], float]
"""Boolean tensor of live edges -> the live share of the measure."""


@final
class SparsityController:
    """Sets gamma so that the live share of a measure follows a plan to a target.

    The plan is a straight line from 1, at 20 % of the steps of lambda, to the target, at 80 %. At each update, the size
    of every edge is predicted R = 10 % of the steps ahead. In the recent steps it decreased by d for each step, under a
    mean penalty gamma. If the gradient of the loss stays the same, a penalty g reduces the size to
    ``size - R * (d + eta * f * (g - gamma) / (1 - mu))`` (f: the edge's factor; eta, mu: learning rate and momentum of
    lambda). The critical penalty of an edge is the g that makes this 0. Edges are taken in the order of their critical
    penalties until the live share without them is as planned. Gamma is set to the critical penalty of the last one, but
    changes by a factor of 2 at most. If no edge has to die, gamma does not increase. From 60 % of the steps on, gamma
    increases at least by 15 % while the live share exceeds the plan. Gamma is constant while the momentum builds up
    (2 / (1 - mu) steps).

    An edge that is dead at two consecutive updates is to be removed permanently (a lambda near 0 may be 0 at one update
    and not at the next). When the remaining edges meet the target, they are the result and are trained without a
    penalty.

    Args:
        target: measure (``edges``, ``flops``, ``memory_access``) -> the share of it that is to remain.
        steps: number of steps of lambda in the search.
        momentum: the momentum of the optimiser of lambda.

    Attributes:
        measure: the measure of the target.
        share: the target, between 0 and 1.
        lasting: which edges were alive at the last update or the one before; the others are to be removed.
        reached: whether the target has been reached.

    Raises:
        ConfigurationError: the target does not consist of one known measure with a share between 0 and 1.
    """

    def __init__(self, target: Mapping[str, float], *, steps: int, momentum: float) -> None:
        if len(target) != 1:
            raise ConfigurationError("set one measure and its share, e.g. {flops: 0.4}", path="sparsity")
        ((self.measure, self.share),) = target.items()
        if self.measure not in MEASURES:
            raise ConfigurationError(
                f"unknown measure '{self.measure}'{did_you_mean(self.measure, MEASURES)}", path="sparsity"
            )
        if not 0 < self.share < 1:
            raise ConfigurationError(
                f"the share that remains must be between 0 and 1, not {self.share}", path=f"sparsity.{self.measure}"
            )
        self._steps, self._momentum = steps, momentum
        self._snapshots: list[tuple[int, float, Tensor]] = []
        self.lasting = torch.ones(0, dtype=torch.bool)
        self.reached = False

    def first(self, rate: float) -> float:
        """Return the initial penalty: it moves an edge that the loss does not depend on to 0 at the end of the plan."""
        return (1 - self._momentum) / (rate * max(1, math.ceil(END * self._steps)))

    @property
    def interval(self) -> int:
        """The largest number of steps between two updates."""
        return max(1, self._steps // UPDATES)

    def plan(self, step: float) -> float:
        """Return the planned live share after a number of steps."""
        progress = min(max((step / self._steps - BEGIN) / (END - BEGIN), 0.0), 1.0)
        return 1 - (1 - MARGIN * self.share) * progress

    def update(self, sizes: Tensor, factors: Tensor, *, gamma: float, rate: float, step: int, share: Share) -> float:
        """Return the penalty for the next steps.

        Args:
            sizes: present sizes of lambda, shape ``(number of edges,)``, on the CPU; 0: dead.
            factors: factors of the penalty, of the same shape.
            gamma: the present penalty.
            rate: the learning rate of lambda.
            step: number of completed steps of lambda.
            share: computes the live share of the measure.
        """
        sizes = sizes.double()
        self.lasting = (
            (sizes > 0) | (self._snapshots[-1][2] > 0) if self._snapshots else torch.ones_like(sizes, dtype=torch.bool)
        )
        live_share = share(self.lasting)
        if live_share <= self.share:
            self.reached = True
            return 0.0
        while len(self._snapshots) > 1 and self._snapshots[1][0] <= step - WINDOW * self._steps:
            self._snapshots.pop(0)
        past, self._snapshots = self._snapshots, [*self._snapshots, (step, gamma, sizes)]
        if not past or step * (1 - self._momentum) < 2:
            return gamma
        ahead = max(min(AHEAD * self._steps, self._steps - step), 1.0)
        # The penalty of a snapshot was in force before it, since the previous snapshot.
        mean = math.fsum(penalty for _, penalty, _ in self._snapshots[1:]) / len(past)
        drift = (past[0][2] - sizes) / (step - past[0][0])
        pull = rate * factors / (1 - self._momentum)
        critical = mean + (sizes / ahead - drift) / pull
        critical[pull == 0] = math.inf
        target = _penalty_to_reach(critical, self.lasting, share, self.plan(step + ahead))
        if target is None:
            target = min(gamma, float(critical[self.lasting].min()))
        if step >= LATE * self._steps and live_share > self.plan(step):
            target = max(target, PUSH * gamma)
        return min(max(target, gamma / LARGEST_CHANGE), gamma * LARGEST_CHANGE)

    def state_dict(self) -> dict[str, Any]:
        """Return the recent snapshots and whether the target was reached."""
        return {"seen": [list(each) for each in self._snapshots], "reached": self.reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._snapshots = [(step, gamma, sizes) for step, gamma, sizes in state["seen"]]
        self.reached = state["reached"]


def _penalty_to_reach(critical: Tensor, alive: Tensor, share: Share, limit: float) -> float | None:
    """Return the smallest critical penalty at which the live share is at most the limit; None: no edge has to die.

    Args:
        critical: critical penalty of each edge, shape ``(number of edges,)``.
        alive: which edges are alive, boolean, of the same shape.
        share: computes the live share of the measure.
        limit: the largest allowed share.
    """
    if share(alive) <= limit:
        return None
    places = alive.nonzero().flatten()
    order = places[critical[places].argsort(stable=True)]
    # Bisection: without the first `low` edges the share is above the limit; `high` is sufficient or all edges.
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        remaining = alive.clone()
        remaining[order[:middle]] = False
        low, high = (low, middle) if share(remaining) <= limit else (middle, high)
    return float(critical[order[high - 1]])
