"""A few trials of a Pareto front that are spread along it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial


def spread_front(problem: Problem, space: SearchSpace, trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return trials of the Pareto front, spread along it, no two of the same canonical architecture.

    All, if the front has at most ``count`` networks. Otherwise first the best one in each objective, in the order of
    the objectives; then, one after another, the one whose distance to the nearest chosen one is largest (farthest-point
    clustering, Gonzalez 1985). Distances are Euclidean, with each objective scaled to [0, 1] over the front. Of equal
    ones the one that comes first in `Problem.pareto` is taken. The networks for a smaller count are the first ones for
    a larger count.

    Args:
        problem: its objectives.
        space: of the search.
        trials: of one stage.
        count: maximum number of trials to return.
    """
    distinct: dict[object, Trial] = {}
    for trial in problem.pareto(trials):
        if all(math.isfinite(score) for score in problem.scores(trial)):
            distinct.setdefault(space.canonical(trial.architecture), trial)
    front = list(distinct.values())
    if len(front) <= count:
        return front
    scores = np.array([problem.scores(trial) for trial in front])
    low, high = scores.min(axis=0), scores.max(axis=0)
    scaled = (scores - low) / np.where(high > low, high - low, 1.0)
    chosen = list(dict.fromkeys(int(place) for place in scores.argmax(axis=0)))[:count]
    distances = np.full(len(front), np.inf)
    for place in chosen:
        distances = np.minimum(distances, np.linalg.norm(scaled - scaled[place], axis=1))
    while len(chosen) < count:
        place = int(distances.argmax())
        chosen.append(place)
        distances = np.minimum(distances, np.linalg.norm(scaled - scaled[place], axis=1))
    return [front[place] for place in chosen]
