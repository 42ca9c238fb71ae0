"""The strategy that proposes what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial


@final
class Given(AskTellStrategy):
    """Proposes architectures that the configuration names, in their order: to evaluate a known one like any other.

    Args:
        space: they are of.
        architectures: decision -> value, each.
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
        """Return the next ones."""
        found = self._proposals[self._next : self._next + n]
        self._next += len(found)
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing is learned."""

    def search_state(self) -> dict[str, Any]:
        """Return how many were proposed."""
        return {"next": self._next}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Go on after those."""
        self._next = state["next"]
