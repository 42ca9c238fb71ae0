"""How large the penalty is: automatic, checked before the run, and adapted to what each edge costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel
from automl_nas_dso.gamma_factors import AdaptiveFlops, AdaptiveMac, Constant, Factors
from automl_nas_dso.gamma_latency import AdaptiveLatency
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.strategy_gates import Gates

Schedule: TypeAlias = Literal["constant", "adaptive_flops", "adaptive_mac", "adaptive_latency"]

AIM = 2.0
"""What ``gamma: auto`` aims at: so many times the way from 1 to 0 is what a useless edge could travel."""


def strength(gamma: float, rates: Iterable[float], momentum: float) -> float:
    """Return k: how far a penalty moves an edge without gradient, in the units of its way from 1 to 0.

    It is the sum of v over ``v = momentum v + rate gamma``, which is ``gamma * sum(rates) / (1 - momentum)`` but for
    the first steps, in which the momentum builds up. Useless edges reach 0 from k = 1 on; 1 to 3 is useful.

    Args:
        gamma: the penalty.
        rates: the learning rate of each step of lambda.
        momentum: of lambda.
    """
    velocity = distance = 0.0
    for rate in rates:
        velocity = momentum * velocity + rate * gamma
        distance += velocity
    return distance


def automatic(rates: Iterable[float], momentum: float) -> float:
    """Return the penalty whose `strength` is `AIM`."""
    return AIM / strength(1.0, rates, momentum)


def check_reach(gamma: float, rates: list[float], momentum: float) -> None:
    """Check that a penalty is a number, and that it takes a useless edge from 1 to 0 in time.

    A penalty of exactly 0 passes: it removes nothing, and says so.

    Raises:
        ConfigurationError: it does not; the message has the prediction and a penalty that would do.
    """
    if not 0 <= gamma < math.inf:
        raise ConfigurationError(f"must be finite and at least 0, not {gamma}", path="gamma")
    k = strength(gamma, rates, momentum)
    if gamma > 0 and k < 1:
        raise ConfigurationError(
            f"{gamma:g} is too small: in the {len(rates)} steps of lambda of this run an edge that nothing needs goes "
            f"{k:.2g} of the way from 1 to 0 (that is k), so none would be removed; {gamma / k:.2g} is the least, "
            f"{AIM * gamma / k:.2g} would do (k = {AIM:g}); or set 'auto', or train longer",
            path="gamma",
        )


def make_factors(
    schedule: Schedule,
    gates: Gates,
    anatomy: LiveStructure,
    *,
    reference: Literal["block", "network"],
    latency: str,
    models: Mapping[str, CostModel],
) -> Factors:
    """Return the factors of a schedule.

    Raises:
        ConfigurationError: the space does not know its costs, or the problem has no such cost model.
    """
    if schedule == "adaptive_flops":
        return AdaptiveFlops(gates, anatomy)
    if schedule == "adaptive_mac":
        return AdaptiveMac(gates, anatomy, reference)
    if schedule == "adaptive_latency":
        if latency not in models:
            raise ConfigurationError(
                f"the problem has no cost '{latency}' (it has {', '.join(models) or 'none'}); add it to problem.costs",
                path="latency",
            )
        return AdaptiveLatency(gates, anatomy, models[latency])
    return Constant(gates)
