"""Spaces and a loop that the tests of this plugin share."""

from __future__ import annotations

from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.testing import toy_metric


class Mixed(DecisionSpace):
    """All kinds of decisions; which operation a dead branch has does not matter."""

    def __init__(self, widths: int = 4) -> None:
        super().__init__(
            {
                "branch": Choice((True, False)),
                "operation": Choice(("conv", "pool")),
                "width": Ordinal(tuple(16 * (place + 1) for place in range(widths))),
                "edges": Subset(("a", "b", "c", "d"), min=1, max=2),
            }
        )

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture if architecture["branch"] else architecture.replace({"operation": "conv"})


class Widths(DecisionSpace):
    """Ordered decisions only."""

    def __init__(self, count: int = 3, options: int = 8) -> None:
        options_of_each = tuple(8 * (option + 1) for option in range(options))
        super().__init__({f"width{place}": Ordinal(options_of_each) for place in range(count)})


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
