"""The fitness of trials: an order of all trials, including failed and infeasible ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from automl_nas.evaluation import State
from automl_nas.space import Architecture
from automl_nas.strategy import Problem, Trial

Fitness: TypeAlias = tuple[int, float]
"""Compared in this order: the kind of result (failed, infeasible, feasible) and a number; larger is better."""

_FAILED, _INFEASIBLE, _FEASIBLE = 0, 1, 2
# Weight of the sum in the scalarisation; so small that it only decides ties (Knowles 2006, section III).
_RHO = 0.05


@dataclass(frozen=True)
class Member:
    """An evaluated candidate.

    Attributes:
        architecture: the candidate.
        scores: its objectives, larger is better (`Problem.scores`); empty if the trial failed, was pruned or lacks an
            objective.
        violation: `Trial.total_violation`.
        fidelity: `Trial.effective_fidelity`.
    """

    architecture: Architecture
    scores: tuple[float, ...]
    violation: float
    fidelity: float

    @classmethod
    def of(cls, problem: Problem, trial: Trial) -> Member:
        """Return the member of a trial in any state."""
        scores = problem.scores(trial) if trial.state is State.COMPLETE else ()
        if -math.inf in scores:
            scores = ()
        return cls(trial.architecture, scores, trial.total_violation, trial.effective_fidelity)

    def state(self) -> list[Any]:
        """Return the member as plain data, with None instead of infinity."""
        finite = [number if math.isfinite(number) else None for number in (self.violation, self.fidelity)]
        return [self.architecture.to_dict(), list(self.scores), *finite]

    @classmethod
    def load(cls, state: Sequence[Any]) -> Member:
        """Invert `state`."""
        architecture, scores, violation, fidelity = state
        violation, fidelity = (math.inf if number is None else number for number in (violation, fidelity))
        return cls(Architecture(architecture), tuple(scores), violation, fidelity)

    @property
    def feasible(self) -> bool:
        """Whether the trial has a result and meets all constraints."""
        return bool(self.scores) and self.violation <= 0


def fitness(members: Sequence[Member], rng: random.Random) -> list[Fitness]:
    """Return the fitness of each member: failed ones are worst, then infeasible ones by violation, then by objectives.

    Several objectives are combined into one with weights that are sampled at each call, by the augmented Chebyshev
    scalarisation of ParEGO (Knowles 2006, equation 2), applied to ranks instead of values. So no scale of an objective
    is needed, and many calls cover the whole Pareto front.

    Args:
        members: members of one fidelity.
        rng: of the weights.
    """
    feasible = [member for member in members if member.feasible]
    scalars = iter(_scalarised([member.scores for member in feasible], rng))
    return [
        (_FEASIBLE, next(scalars))
        if member.feasible
        else (_INFEASIBLE, -member.violation)
        if member.scores
        else (_FAILED, 0.0)
        for member in members
    ]


def _scalarised(scores: Sequence[tuple[float, ...]], rng: random.Random) -> list[float]:
    if not scores or len(scores[0]) == 1:
        return [score[0] for score in scores]
    exponential = np.array([rng.expovariate(1.0) for _ in scores[0]])
    weights = exponential / exponential.sum()  # uniform on the simplex
    table = np.array(scores)
    # Losses: the share of members that are at least as good, one column for each objective, times the weights.
    losses = np.array([[(column >= value).mean() for value in column] for column in table.T]).T * weights
    return [-float(loss) for loss in losses.max(axis=1) + _RHO * losses.sum(axis=1)]


def improved(scores: tuple[float, ...], earlier: Sequence[tuple[float, ...]]) -> bool:
    """Whether scores are an improvement: no earlier scores are at least as good in every objective."""
    return not any(all(a >= b for a, b in zip(other, scores, strict=True)) for other in earlier)
