"""The expected cost of weights in a space whose networks are derived group by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from automl_nas.evaluation import CostTable
from automl_nas.space import Decision, Selection, Value


@final
class GroupedExpectation:
    """The expected cost of a network that is drawn with the probabilities by which one is derived.

    The joint value j of a group has the probability ``q(j) = prod_{o in j} w_o / sum_k prod_{o in k} w_o``, with w_o
    the weight of option o of its decision: an operation, or an element of a `Subset`. The sum goes over the joint
    values that a derived network can have. The expected cost is ``base + sum_groups sum_j q(j) c(j)``. Without limits
    the derived network is the mode of q for the probabilities w.

    Args:
        decisions: of the space.
        values: group -> joint values.
        table: the cost of each joint value.

    Attributes:
        smallest: the cost of the cheapest network.
    """

    def __init__(
        self,
        decisions: Mapping[str, Decision],
        values: Mapping[str, Sequence[Mapping[str, Value]]],
        table: CostTable,
    ) -> None:
        self._decisions, self._base, self.smallest = dict(decisions), table.base, table.smallest[1]
        start, starts = 0, {}
        for name, decision in decisions.items():
            starts[name] = start
            start += len(decision.options)
        # All groups have the shape of the largest one. The last place but one has the weight 1, for joint values with
        # fewer options; the last one the weight 0, for groups with fewer joint values.
        one, zero = start, start + 1
        places = {
            group: [
                [
                    starts[name] + decisions[name].position(option)
                    for name, value in joint.items()
                    for option in (value if isinstance(value, tuple) else (value,))
                ]
                for joint in joints
            ]
            for group, joints in values.items()
        }
        most = max(len(rows) for rows in places.values())
        longest = max(len(row) for rows in places.values() for row in rows)
        index = torch.full((len(places), most, longest), one)
        self._costs = torch.zeros(len(places), most, dtype=torch.float64)
        for number, (group, rows) in enumerate(places.items()):
            index[number, len(rows) :] = zero
            for place, row in enumerate(rows):
                index[number, place, : len(row)] = torch.tensor(row)
            self._costs[number, : len(rows)] = torch.tensor(table.contributions[group], dtype=torch.float64)
        self._index = index

    def __call__(self, selection: Selection) -> Tensor:
        """Return the expected cost, differentiable in the weights.

        Args:
            selection: decision -> tensor with one weight for each option.
        """
        rows = [selection[name] for name in self._decisions]
        weights = torch.cat([row for row in rows if isinstance(row, Tensor)])
        weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
        if self._index.device != weights.device:
            self._index, self._costs = self._index.to(weights.device), self._costs.to(weights.device)
        # Logarithms: products of small weights would round to 0, and with them the sum that divides.
        logs = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
        logs = torch.cat([logs, logs.new_tensor([0.0, -torch.inf])])
        joint = logs[self._index].sum(2).softmax(1)
        return (joint * self._costs.to(joint.dtype)).sum() + self._base
