"""Decisions without networks: `DecisionSpace`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision
from automl_nas.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import nn


class DecisionSpace(SearchSpace):
    """A space of decisions alone: for tables, for functions of an architecture, for what builds its networks elsewhere.

    Every strategy that asks and tells can search it. Everything but `decisions` is as `SearchSpace` has it by default.

    Args:
        decisions: decision name -> decision, in their order.
    """

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self._decisions = dict(decisions)

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """The decisions."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Empty: there is no network to feed."""
        return ()

    def build(self, architecture: Architecture) -> nn.Module:
        """Fail.

        Raises:
            SpaceError: always.
        """
        raise SpaceError(f"{type(self).__name__} has decisions and no networks, so none can be built")
