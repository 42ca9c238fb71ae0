"""Architectures as sequences of actions, which a policy draws one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from automl_nas.space import Architecture, Decision, Subset


@dataclass(frozen=True)
class Action:
    """One action of a sequence.

    Attributes:
        decision: the decision that the action determines, or belongs to.
        alternatives: the number of alternatives: the options of a `Choice`; 2 for an element of a `Subset`, of which 1
            takes the element.
        start: the place in the sequence of the first action of the decision.
        subset: the decision if it is a `Subset`.
    """

    decision: str
    alternatives: int
    start: int
    subset: Subset | None


@final
class ActionSequence:
    """The actions that determine an architecture: one for a `Choice`, one for each element of a `Subset`.

    Args:
        decisions: of the space, in order.

    Attributes:
        actions: the actions in order.
    """

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self._decisions = dict(decisions)
        self.actions: list[Action] = []
        for name, decision in self._decisions.items():
            start = len(self.actions)
            if isinstance(decision, Subset):
                self.actions += [Action(name, 2, start, decision)] * decision.width
            else:
                self.actions.append(Action(name, len(decision.options), start, None))

    def __len__(self) -> int:
        return len(self.actions)

    def encode(self, architecture: Architecture) -> list[int]:
        """Return the actions that give an architecture."""
        return [code for name, decision in self._decisions.items() for code in decision.encode(architecture[name])]

    def decode(self, codes: Sequence[int]) -> Architecture:
        """Return the architecture that actions give."""
        values, start = {}, 0
        for name, decision in self._decisions.items():
            values[name] = decision.decode(codes[start : start + decision.width])
            start += decision.width
        return Architecture(values)

    def allowed(self, place: int, codes: Tensor) -> Tensor | None:
        """Return which alternatives keep the number of elements of a `Subset` within its limits; None: all.

        Args:
            place: of the action in the sequence.
            codes: actions, of which those before ``place`` are read, shape ``(samples, actions)``.

        Returns:
            A boolean tensor of shape ``(samples, alternatives)``.
        """
        action = self.actions[place]
        if action.subset is None or (action.subset.min == 0 and action.subset.largest == len(action.subset.options)):
            return None
        taken = codes[:, action.start : place].sum(1)
        left = action.start + len(action.subset.options) - place
        may_leave = taken + left > action.subset.min
        may_take = taken < action.subset.largest
        return torch.stack([may_leave, may_take], 1)
