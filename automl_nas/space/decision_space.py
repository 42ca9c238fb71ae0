"""Decisions without networks: `DecisionSpace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import nn


class DecisionSpace(SearchSpace):
    """A space of decisions without networks: for tables, functions of an architecture, and networks built elsewhere.

    Every ask-and-tell strategy can search it. It has the defaults of `SearchSpace`.

    Args:
        decisions: decision name -> decision, in order.
        exclude: combinations of options that exclude each other; see `SearchSpace.excluded`.

    Raises:
        SpaceError: a combination is wrong.
    """

    def __init__(self, decisions: Mapping[str, Decision], *, exclude: Sequence[Mapping[str, object]] = ()) -> None:
        self._decisions = dict(decisions)
        self._excluded = tuple(exclude)
        _ = self.exclusions

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions."""
        return self._decisions

    @property
    def excluded(self) -> Sequence[Mapping[str, object]]:
        """The combinations of options that exclude each other."""
        return self._excluded

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Empty, since there are no networks."""
        return ()

    def build(self, architecture: Architecture) -> nn.Module:
        """Raise an error: the space has no networks.

        Raises:
            SpaceError: always.
        """
        raise SpaceError(f"{type(self).__name__} has decisions but no networks, so it cannot build one")
