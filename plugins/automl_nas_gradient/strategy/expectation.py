"""The expected cost of weights in a space."""

from __future__ import annotations

from collections.abc import Callable

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import TabulatedCost
from automl_nas.space import SearchSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.training.cost_term import ExpectedCost


def expectation_of(space: SearchSpace, problem: Problem) -> Callable[[str], ExpectedCost]:
    """Return a function from the name of a cost to its expectation, which is linear in the weights of the options.

    The function raises ConfigurationError if the cost is not additive.

    Args:
        space: the space.
        problem: has the costs.
    """

    def expectation(metric: str) -> ExpectedCost:
        model = problem.cost_models[metric]
        tabulated = model if isinstance(model, TabulatedCost) else TabulatedCost(model, space)
        if tabulated.table is None:
            raise ConfigurationError(
                f"the expected value of '{metric}' cannot be computed from probabilities, since it is not additive "
                f"({tabulated.reason}); leave cost out: a limit on '{metric}' is met by the derived network without it",
                path="cost.metric",
            )
        return ExpectedCost(tabulated.table.expectation, tabulated.table.smallest[1])

    return expectation
