"""What trials are worth to a search: an order of all of them, whatever became of them."""

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

Worth: TypeAlias = tuple[int, float]
"""What is compared: first the kind of result, then a number."""

_FAILED, _INFEASIBLE, _FEASIBLE = 0, 1, 2
# Of the sum in the scalarisation: so little that it only decides among equals (Knowles 2006, section III).
_RHO = 0.05


@dataclass(frozen=True)
class Member:
    """An evaluated candidate.

    Attributes:
        architecture: as it was evaluated.
        scores: its objectives, larger is better; empty if it failed, was pruned or lacks one.
        gap: the sum of its violations.
        fidelity: that of its evaluation; inf for the default.
    """

    architecture: Architecture
    scores: tuple[float, ...]
    gap: float
    fidelity: float

    @classmethod
    def of(cls, problem: Problem, trial: Trial) -> Member:
        """Return what a search has to know of a trial."""
        scores = problem.scores(trial) if trial.state is State.COMPLETE else ()
        if -math.inf in scores:
            scores = ()
        gap = sum(max(0.0, missed) for missed in trial.violations.values())
        return cls(trial.architecture, scores, gap, math.inf if trial.fidelity is None else trial.fidelity)

    def state(self) -> list[Any]:
        """Return it as plain data; of numbers that JSON lacks None is left."""
        finite = [number if math.isfinite(number) else None for number in (self.gap, self.fidelity)]
        return [self.architecture.to_dict(), list(self.scores), *finite]

    @classmethod
    def load(cls, state: Sequence[Any]) -> Member:
        """Invert `state`."""
        architecture, scores, gap, fidelity = state
        gap, fidelity = (math.inf if number is None else number for number in (gap, fidelity))
        return cls(Architecture(architecture), tuple(scores), gap, fidelity)

    @property
    def feasible(self) -> bool:
        """Whether it has a result and meets all constraints."""
        return bool(self.scores) and self.gap <= 0


def worths(members: Sequence[Member], rng: random.Random) -> list[Worth]:
    """Return what each member is worth: what failed least, what misses a constraint by how much, then by objectives.

    Several objectives are made one with weights drawn anew at each call, the augmented Chebyshev scalarisation of
    ParEGO (Knowles 2006, equation 2), of ranks instead of values: so no scale has to be known, and over many calls all
    of the Pareto front is aimed at.

    Args:
        members: of one fidelity.
        rng: of the weights.
    """
    feasible = [member for member in members if member.feasible]
    goals = iter(_scalarised([member.scores for member in feasible], rng))
    return [
        (_FEASIBLE, next(goals)) if member.feasible else (_INFEASIBLE, -member.gap) if member.scores else (_FAILED, 0.0)
        for member in members
    ]


def _scalarised(scores: Sequence[tuple[float, ...]], rng: random.Random) -> list[float]:
    if not scores or len(scores[0]) == 1:
        return [score[0] for score in scores]
    exponential = np.array([rng.expovariate(1.0) for _ in scores[0]])
    weights = exponential / exponential.sum()  # uniform on the simplex
    table = np.array(scores)
    # The share of members that are at least as good, one column for each objective: 0 would be better than all.
    missed = np.array([[(column >= value).mean() for value in column] for column in table.T]).T * weights
    return [-float(loss) for loss in missed.max(axis=1) + _RHO * missed.sum(axis=1)]


def improved(scores: tuple[float, ...], earlier: Sequence[tuple[float, ...]]) -> bool:
    """Whether no earlier scores are at least as good in every objective."""
    return not any(all(a >= b for a, b in zip(other, scores, strict=True)) for other in earlier)
