"""The expected cost in the loss of alpha."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.space import Selection
from automl_nas.strategy import Problem
from automl_nas_gradient.training.settings import CostTerm


@dataclass(frozen=True)
class ExpectedCost:
    """The expected cost of selections with weights.

    Attributes:
        of: returns the expected cost of a selection, differentiable in its weights.
        smallest: the cost of the cheapest network.
    """

    of: Callable[[Selection], Tensor]
    smallest: float


def expected_form(loss: Tensor, cost: Tensor, weight: float, reference: float) -> Tensor:
    """Return ``L + weight * (E - reference) / reference`` (Cai et al. 2019, arXiv 1812.00332, equation 11)."""
    return loss + weight * (cost - reference) / reference


def hinge_form(loss: Tensor, cost: Tensor, weight: float, limit: float) -> Tensor:
    """Return ``L + weight * max(0, E - limit) / limit``: a cost within the limit has no gradient."""
    return loss + weight * torch.relu(cost - limit) / limit


def log_form(loss: Tensor, cost: Tensor, weight: float, exponent: float, reference: float | None) -> Tensor:
    """Return ``L * weight * ln(E)^exponent`` (Wu et al. 2019, arXiv 1812.03443, equation 2).

    With a reference, ``ln(E)`` is divided by its logarithm, as in the code of ProxylessNAS.
    """
    logarithm = torch.log(cost)
    if reference is not None:
        logarithm = logarithm / math.log(reference)
    return loss * weight * logarithm**exponent


@final
@dataclass(frozen=True)
class CostInLoss:
    """Adds the expected cost to a loss.

    Attributes:
        term: the settings.
        expected: the expectation of the cost.
        scale: the reference, or the limit of the form ``hinge``; None: the form ``log`` has no reference.
    """

    term: CostTerm
    expected: ExpectedCost
    scale: float | None

    def __call__(self, loss: Tensor, weights: Selection) -> Tensor:
        """Return the loss with the cost of the weights in it."""
        cost = self.expected.of(weights).to(loss.device)
        if self.term.form == "log":
            return log_form(loss, cost, self.term.weight, self.term.exponent, self.scale)
        assert self.scale is not None
        form = hinge_form if self.term.form == "hinge" else expected_form
        return form(loss, cost, self.term.weight, self.scale)


def make_cost(
    term: CostTerm, problem: Problem, expectation: Callable[[str], ExpectedCost], uniform: Selection
) -> CostInLoss | None:
    """Return the cost in the loss; None if it has none.

    Args:
        term: the settings.
        problem: has the cost and its limits.
        expectation: the name of a cost -> its expectation.
        uniform: equal weights for all options, whose cost is the default reference.

    Raises:
        ConfigurationError: the problem has no such cost, ``hinge`` has no upper limit, or ``log`` has costs up to 1.
    """
    if not term.metric:
        return None
    if term.metric not in problem.cost_models:
        costs = ", ".join(problem.cost_models) or "none"
        raise ConfigurationError(
            f"the problem has no cost '{term.metric}' (its costs: {costs}); add it to problem.costs", path="cost.metric"
        )
    expected = expectation(term.metric)
    if term.form == "log" and not expected.smallest > 1:
        raise ConfigurationError(
            f"the form log needs costs above 1, and the smallest '{term.metric}' is {expected.smallest}; use another "
            "form, or a smaller unit",
            path="cost.form",
        )
    if term.form != "hinge":
        scale = term.reference
        if scale is None and term.form == "expected":
            scale = float(expected.of(uniform))
        return CostInLoss(term, expected, scale)
    limits = [each.high for each in problem.constraints if each.metric == term.metric and each.high < math.inf]
    if not limits:
        raise ConfigurationError(
            f"the form hinge needs an upper limit of '{term.metric}'; add one to problem.constraints", path="cost.form"
        )
    return CostInLoss(term, expected, min(limits))
