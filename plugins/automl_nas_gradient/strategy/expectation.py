"""The expected cost of weights in a space."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import NotAdditiveError, TabulatedCost
from automl_nas.space import SearchSpace
from automl_nas.strategy import Problem
from automl_nas_gradient.deriving import Deriver
from automl_nas_gradient.deriving.items import GroupedSpace, uniform_selection
from automl_nas_gradient.training.cost_term import ExpectedCost


def expectation_of(space: SearchSpace, problem: Problem, deriver: Deriver) -> Callable[[str], ExpectedCost]:
    """Return a function from the name of a cost to its expectation.

    It is linear in the weights of the options; in a `GroupedSpace` it is a `GroupedExpectation`. The function raises
    ConfigurationError if the cost is not additive.

    Args:
        space: the space.
        problem: has the costs.
        deriver: derives networks of the space.
    """

    def grouped(metric: str) -> ExpectedCost:
        try:
            expectation = deriver.expectation(metric)
        except NotAdditiveError as error:
            raise ConfigurationError(
                f"the cost '{metric}' has no expectation ({error}); a limit on '{metric}' is met by the derived "
                "network without it",
                path="cost.metric",
            ) from None
        return ExpectedCost(expectation, expectation.smallest)

    def expectation(metric: str) -> ExpectedCost:
        try:
            problem.expected_cost(metric, uniform_selection(space.decisions))
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error.message}; a limit on '{metric}' is met by the derived network without it", path="cost.metric"
            ) from None
        model = problem.cost_models[metric]
        assert isinstance(model, TabulatedCost)
        return ExpectedCost(partial(problem.expected_cost, metric), model.extremes().smallest_value)

    return grouped if isinstance(space, GroupedSpace) else expectation
