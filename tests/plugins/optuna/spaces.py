"""Spaces and a loop that the tests of this plugin share."""

from __future__ import annotations

from collections.abc import Mapping

from automl_nas.errors import SpaceError
from automl_nas.search import AskTellStrategy, Proposal, Trial
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision, Ordinal, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.testing import toy_metric


class Mixed(SearchSpace):
    """All kinds of decisions; which operation a dead branch has does not matter."""

    def __init__(self, widths: int = 4) -> None:
        self._decisions: dict[str, Decision] = {
            "branch": Choice((True, False)),
            "operation": Choice(("conv", "pool")),
            "width": Ordinal(tuple(16 * (place + 1) for place in range(widths))),
            "edges": Subset(("a", "b", "c", "d"), min=1, max=2),
        }

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        return ()

    def build(self, architecture: Architecture) -> None:  # type: ignore[override]
        raise SpaceError("nothing to build")

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture if architecture["branch"] else architecture.replace(operation="conv")


class Widths(SearchSpace):
    """Ordered decisions only."""

    def __init__(self, count: int = 3, options: int = 8) -> None:
        self._decisions: dict[str, Decision] = {
            f"width{place}": Ordinal(tuple(8 * (option + 1) for option in range(options))) for place in range(count)
        }

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        return ()

    def build(self, architecture: Architecture) -> None:  # type: ignore[override]
        raise SpaceError("nothing to build")


def search(strategy: AskTellStrategy, count: int, space: SearchSpace, first: int = 0) -> list[Proposal]:
    """Ask and tell one at a time."""
    proposals: list[Proposal] = []
    for number in range(first, first + count):
        found = strategy.ask(1)
        if not found:
            break
        proposals += found
        metrics = {"accuracy": toy_metric(found[0].architecture, space)}
        strategy.tell([Trial(number, found[0].architecture, metrics)])
    return proposals
