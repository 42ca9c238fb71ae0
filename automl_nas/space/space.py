"""A search space: decisions, and how to build a network from an architecture."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.operators import sample

if TYPE_CHECKING:
    from torch import nn

    from automl_nas.space.supernet import Supernet


class SearchSpace(ABC):
    """What can be searched.

    A subclass gives `decisions`, `input_shape` and `build`; it may override the documented defaults `canonical`
    and `segments`, nothing else. Settings named ``num_classes`` and ``input_shape`` that a configuration leaves out
    are filled in from the task.
    """

    @property
    @abstractmethod
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision, in a fixed order."""

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch, e.g. ``(3, 32, 32)``; empty when no network can be built."""

    @abstractmethod
    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights, drawn from torch's global generator.

        Raises:
            SpaceError: the architecture is not of this space, or the space has no networks.
        """

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all architectures that compute the same function (default: itself)."""
        return architecture

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of the network's consecutive parts, first part first (default: one part)."""
        return (tuple(self.decisions),)

    @property
    def size(self) -> int:
        """The number of raw assignments; architectures with equal `canonical` are counted apart."""
        return math.prod(decision.size for decision in self.decisions.values())

    def validate(self, values: Mapping[str, object]) -> Architecture:
        """Return the architecture with every value in its normal form.

        Raises:
            SpaceError: a decision is missing, unknown, or has a value it cannot take.
        """
        for name in values:
            if name not in self.decisions:
                raise SpaceError(f"the space has no decision '{name}'{did_you_mean(name, self.decisions)}")
        normal: dict[str, object] = {}
        for name, decision in self.decisions.items():
            if name not in values:
                raise SpaceError(f"the architecture lacks the decision '{name}'")
            try:
                normal[name] = decision.validate(values[name])
            except SpaceError as error:
                raise SpaceError(f"decision '{name}': {error}") from None
        return Architecture(normal)

    def sample(self, rng: random.Random) -> Architecture:
        """Draw every decision uniformly and independently."""
        return sample(self.decisions, rng)


class SupernetSpace(SearchSpace):
    """A search space whose networks also exist as one supernet with shared weights."""

    @abstractmethod
    def build_supernet(self) -> Supernet:
        """Return the supernet with fresh weights, drawn from torch's global generator."""
