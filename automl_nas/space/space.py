"""A search space: decisions, and how to build a network from an architecture."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.exclusions import Exclusions
from automl_nas.space.operators import sample

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_nas.space.supernet import Supernet


class SearchSpace(ABC):
    """What can be searched.

    A subclass implements `decisions`, `input_shape` and `build`; it may override the documented defaults `canonical`,
    `segments`, `excluded` and `own_weights`, nothing else. If a configuration omits settings named ``num_classes`` and
    ``input_shape``, they are filled in from the task.
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
            SpaceError: the architecture is not of this space, or the space cannot build networks.
        """

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the representative of all architectures that compute the same function (default: itself).

        It is an architecture of the space whose representative it is itself. Before a run some architectures are
        checked, and a space that returns anything else for them is refused.
        """
        return architecture

    def segments(self) -> tuple[tuple[str, ...], ...]:
        """Return the decisions of the network's consecutive parts, first part first (default: one part)."""
        return (tuple(self.decisions),)

    @property
    def excluded(self) -> Sequence[Mapping[str, object]]:
        """The combinations of options that no network may have, always the same ones (default: none).

        Each maps two or more decisions to an option or a list of options. An architecture that has one of these options
        for each of the decisions is not sampled, evaluated or delivered, and no network of it is built; see
        `automl_nas.space.Exclusions`.
        """
        return ()

    @property
    def own_weights(self) -> Mapping[str, Tensor]:
        """The tensors with which all networks begin and which are not drawn, such as trained ones, by name.

        A run records what they are, and does not go on with others (default: none).
        """
        return {}

    @cached_property
    def exclusions(self) -> Exclusions:
        """The checked combinations of `excluded`.

        Raises:
            SpaceError: a combination is wrong; see `automl_nas.space.Exclusions`.
        """
        return Exclusions(self.decisions, self.excluded)

    @property
    def size(self) -> int:
        """The number of raw assignments.

        Architectures with equal `canonical` are counted separately, and `excluded` ones are counted, too.
        """
        return math.prod(decision.size for decision in self.decisions.values())

    def validate(self, values: Mapping[str, object]) -> Architecture:
        """Return the architecture with every value in its normal form and the decisions in the space's order.

        An architecture that is already in this form is returned itself; at once if an operator built it from values of
        this space's decisions (`Architecture`).

        Raises:
            SpaceError: a decision is missing, unknown, or has a value it cannot take.
        """
        decisions = self.decisions
        if isinstance(values, Architecture) and values._decisions is decisions:
            return values
        for name in values:
            if name not in decisions:
                raise SpaceError(f"the space has no decision '{name}'{did_you_mean(name, decisions)}")
        normal: dict[str, object] = {}
        for name, decision in decisions.items():
            if name not in values:
                raise SpaceError(f"the architecture lacks the decision '{name}'")
            try:
                normal[name] = decision.validate(values[name])
            except SpaceError as error:
                raise SpaceError(f"decision '{name}': {error}") from None
        validated = Architecture(normal)
        if isinstance(values, Architecture) and validated == values and list(validated) == list(values):
            return values
        return validated

    def sample(self, rng: random.Random) -> Architecture:
        """Draw every decision uniformly and independently; with `excluded`, uniformly among the others."""
        return self.exclusions.sample(rng) if self.exclusions else sample(self.decisions, rng)


class SupernetSpace(SearchSpace):
    """A search space whose networks also exist as one supernet with shared weights."""

    @abstractmethod
    def build_supernet(self) -> Supernet:
        """Return the supernet with fresh weights, drawn from torch's global generator."""

    @property
    def weighable(self) -> frozenset[str]:
        """The decisions that take tensors and `Weighted` (default: all); the others take values only.

        Options whose outputs differ in shape, such as widths, cannot be added: a space with such decisions names the
        others here. Weighted options of several decisions would compute excluded combinations, so the decisions of
        `exclusions` take values only. A strategy that weights options refuses a space whose decisions it cannot weight.
        """
        return frozenset(self.decisions) - self.exclusions.names
