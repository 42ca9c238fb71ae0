"""The strategy that proposes the architectures listed in the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial


@final
class FixedProposals(AskTellStrategy):
    """Propose the architectures listed in the configuration, in this order.

    Args:
        space: the search space of the architectures.
        architectures: mappings of decision -> value.

    Raises:
        ConfigurationError: an architecture is not valid in the space.
    """

    def __init__(self, space: SearchSpace, *, architectures: list[dict[str, Any]]) -> None:
        self._proposals: list[Proposal] = []
        for number, values in enumerate(architectures):
            try:
                self._proposals.append(Proposal(space.validate(values)))
            except SpaceError as error:
                raise ConfigurationError(str(error), path=f"architectures[{number}]") from error
        self._next = 0

    def ask(self, n: int) -> list[Proposal]:
        """Return the next n architectures, or those that are left."""
        proposals = self._proposals[self._next : self._next + n]
        self._next += len(proposals)
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: the proposals do not depend on results."""

    def search_state(self) -> dict[str, Any]:
        """Return the number of architectures proposed so far."""
        return {"next": self._next}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue after the architectures proposed so far."""
        self._next = state["next"]
