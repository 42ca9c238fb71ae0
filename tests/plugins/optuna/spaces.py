"""Spaces and a search loop for the tests of this plugin."""

from __future__ import annotations

from automl_nas.space.architecture import Architecture
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.testing import toy_metric


class Mixed(DecisionSpace):
    """All kinds of decisions. Without the branch, all operations are equivalent."""

    def __init__(self, widths: int = 4) -> None:
        super().__init__(
            {
                "branch": Choice((True, False)),
                "operation": Choice(("conv", "pool")),
                "width": Ordinal(tuple(16 * (position + 1) for position in range(widths))),
                "edges": Subset(("a", "b", "c", "d"), min=1, max=2),
            }
        )

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture if architecture["branch"] else architecture.replace({"operation": "conv"})


class Widths(DecisionSpace):
    """Ordered decisions only."""

    def __init__(self, count: int = 3, options: int = 8) -> None:
        options_of_each = tuple(8 * (option + 1) for option in range(options))
        super().__init__({f"width{position}": Ordinal(options_of_each) for position in range(count)})


def search(strategy: AskTellStrategy, count: int, space: SearchSpace, first: int = 0) -> list[Proposal]:
    """Ask for and tell one trial at a time; return the proposals."""
    proposals: list[Proposal] = []
    for number in range(first, first + count):
        asked = strategy.ask(1)
        if not asked:
            break
        proposals += asked
        metrics = {"accuracy": toy_metric(asked[0].architecture, space)}
        strategy.tell([Trial(number, asked[0].architecture, metrics)])
    return proposals
