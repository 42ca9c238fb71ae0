"""Which share of a space meets the limits on costs, and the range of each cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import ENUMERABLE, TabulatedCost
from automl_nas.evaluation.statistics import wilson_interval
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Constraint, Problem
from automl_nas.streams import stream

SAMPLES, SECONDS = 2000, 5.0
"""The number of architectures that are drawn at most, and the time after which no further one is drawn."""


@dataclass(frozen=True)
class CostRange:
    """The range of a cost in the space.

    Attributes:
        name: of the cost in the problem.
        unit: of its values.
        smallest: the smallest value; None: the cost is measured on a device, which would take too long.
        largest: the largest value, or None.
        exact: whether these are the extremes; False: the extremes of the drawn architectures.
    """

    name: str
    unit: str
    smallest: float | None
    largest: float | None
    exact: bool


@dataclass(frozen=True)
class Feasibility:
    """The share of the raw assignments of a space that meets the limits on costs.

    Attributes:
        stage: whose limits these are.
        limits: the limits in words; limits on metrics, and on costs that are measured on a device, are left out.
        omitted: those limits in words.
        share: from 0 to 1.
        count: the number of feasible assignments; None: the share was estimated.
        interval: 95 % interval of an estimated share; equal to the share if it is exact.
        samples: the number of drawn architectures; 0: the share is exact.
        costs: range of each cost.
    """

    stage: str
    limits: tuple[str, ...]
    omitted: tuple[str, ...]
    share: float
    count: int | None
    interval: tuple[float, float]
    samples: int
    costs: tuple[CostRange, ...]


def feasibility(stage: str, space: SearchSpace, problem: Problem, seed: int) -> Feasibility:
    """Return the feasible share and the ranges of costs.

    The share is exact if at most one limit exists and its cost is additive (`CostTable.count`), or if the space has at
    most `ENUMERABLE` assignments. Otherwise architectures are drawn uniformly.

    Args:
        stage: the name of the stage.
        space: the search space.
        problem: of the stage.
        seed: of the draws.
    """
    models = {name: model for name, model in problem.cost_models.items() if not model.noisy}
    limits = [limit for limit in problem.constraints if limit.metric in models]
    texts = tuple(f"{limit.metric} {limit.text}" for limit in limits)
    omitted = tuple(f"{limit.metric} {limit.text}" for limit in problem.constraints if limit not in limits)
    count = _exact_count(space, models, limits)
    ranges = {name: _exact_range(model) for name, model in models.items()}
    drawn: Sequence[Architecture] = ()
    if count is None or None in ranges.values():
        drawn = _drawn(space, models, seed)
    if count is None and space.size <= ENUMERABLE and len(drawn) == space.size:
        count = _feasible(drawn, models, limits)
    if count is not None:
        share = count / space.size
        interval, samples = (share, share), 0
    else:
        share, samples = _feasible(drawn, models, limits) / len(drawn), len(drawn)
        interval = wilson_interval(share, samples)
    costs = []
    for name, model in problem.cost_models.items():
        if name not in models:
            costs.append(CostRange(name, model.unit, None, None, exact=False))
            continue
        exact = ranges[name]
        values = [model.estimate(architecture) for architecture in drawn] if exact is None else exact
        costs.append(CostRange(name, model.unit, min(values), max(values), exact is not None))
    return Feasibility(stage, texts, omitted, share, count, interval, samples, tuple(costs))


def _exact_count(space: SearchSpace, models: Mapping[str, CostModel], limits: Sequence[Constraint]) -> int | None:
    if not limits:
        return space.size
    model = models[limits[0].metric]
    if len(limits) > 1 or not isinstance(model, TabulatedCost) or model.table is None:
        return None
    try:
        return model.table.count(limits[0].low, limits[0].high)
    except SpaceError:  # too many distinct costs
        return None


def _exact_range(model: CostModel) -> tuple[float, float] | None:
    extremes = model.exact_extremes() if isinstance(model, TabulatedCost) else None
    return None if extremes is None else (extremes.smallest_value, extremes.largest_value)


def _drawn(space: SearchSpace, models: Mapping[str, CostModel], seed: int) -> Sequence[Architecture]:
    """Return all architectures of a small space, or as many random ones as can be judged in time; at least one."""
    if space.size <= ENUMERABLE:
        return list(enumerate_all(space.decisions))
    rng, begun = stream(seed, "feasibility"), time.monotonic()
    drawn: list[Architecture] = []
    while len(drawn) < SAMPLES and (not drawn or time.monotonic() - begun < SECONDS):
        architecture = space.sample(rng)
        for model in models.values():
            model.estimate(architecture)
        drawn.append(architecture)
    return drawn


def _feasible(
    architectures: Sequence[Architecture], models: Mapping[str, CostModel], limits: Sequence[Constraint]
) -> int:
    return sum(
        all(limit.violation(models[limit.metric].estimate(architecture)) <= 0 for limit in limits)
        for architecture in architectures
    )
