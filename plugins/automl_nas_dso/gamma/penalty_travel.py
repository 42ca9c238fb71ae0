"""Penalty travel: how far a penalty moves an edge that the loss does not depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable

from automl_nas.errors import ConfigurationError

AUTO_TRAVEL = 2.0
"""The penalty travel of ``gamma: auto``."""


def penalty_travel(gamma: float, rates: Iterable[float], momentum: float) -> float:
    """Return the penalty travel k: how far a penalty moves an edge without gradient; 1 is the distance from 1 to 0.

    It is the sum of v over the steps ``v = momentum v + rate gamma``. Except for the first steps, in which the momentum
    builds up, this is ``gamma * sum(rates) / (1 - momentum)``. An edge that the loss does not depend on reaches 0 if
    k is at least 1; values from 1 to 3 are useful.

    Args:
        gamma: the penalty.
        rates: the learning rate of each step of lambda.
        momentum: the momentum of the optimiser of lambda.
    """
    velocity = distance = 0.0
    for rate in rates:
        velocity = momentum * velocity + rate * gamma
        distance += velocity
    return distance


def automatic(rates: Iterable[float], momentum: float, factor: float = 1.0) -> float:
    """Return the gamma with which the penalty of an edge with this factor has the `penalty_travel` `AUTO_TRAVEL`."""
    return AUTO_TRAVEL / penalty_travel(factor, rates, momentum)


def check_reach(gamma: float, rates: list[float], momentum: float, factor: float = 1.0) -> None:
    """Check that gamma is finite and that its penalty travel is at least 1; 0 is allowed and removes nothing.

    Args:
        gamma: the penalty of an edge with the factor 1.
        rates: the learning rate of each step of lambda.
        momentum: the momentum of the optimiser of lambda.
        factor: the largest factor of an edge (`EdgeFactors.largest`).

    Raises:
        ConfigurationError: it is not; the message contains the penalty travel and a penalty that is large enough.
    """
    if not 0 <= gamma < math.inf:
        raise ConfigurationError(f"must be finite and at least 0, not {gamma}", path="gamma")
    travel = penalty_travel(gamma * factor, rates, momentum)
    if gamma > 0 and travel < 1:
        raise ConfigurationError(
            f"{gamma:g} is too small: in the {len(rates)} steps of lambda of this run an edge that the loss does not "
            f"depend on moves {travel:.2g} of the way from 1 to 0 (the penalty travel), so no edge would be removed; "
            f"set at least {gamma / travel:.2g}, better {AUTO_TRAVEL * gamma / travel:.2g} (penalty travel "
            f"{AUTO_TRAVEL:g}), or 'auto', or train longer",
            path="gamma",
        )
