"""What selection needs to know of a trial, and selection itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from automl_nas.evaluation import State
from automl_nas.space import Architecture
from automl_nas.strategy import Problem, Trial

Rank: TypeAlias = tuple[bool, float, float, int]
"""Sorts members of one objective as `fittest` does, best first."""


class Member(NamedTuple):
    """An evaluated candidate.

    Attributes:
        number: the trial's.
        architecture: the candidate.
        scores: its objectives, larger is better (`Problem.scores`).
        gap: the sum of the violations of its constraints; 0 if it is feasible.
        fidelity: that of its evaluation; inf for the default.
    """

    number: int
    architecture: Architecture
    scores: tuple[float, ...]
    gap: float
    fidelity: float

    @classmethod
    def of(cls, problem: Problem, trial: Trial) -> Member | None:
        """Return what a trial is worth; None unless it is COMPLETE with a number for every objective."""
        if trial.state is not State.COMPLETE:
            return None
        scores = problem.scores(trial)
        if -math.inf in scores:
            return None
        gap = 0.0
        for missed in trial.violations.values():
            if missed > 0:
                gap += missed
        fidelity = math.inf if trial.fidelity is None else trial.fidelity
        return cls(trial.number, trial.architecture, scores, gap, fidelity)

    def state(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "number": self.number,
            "architecture": self.architecture.to_dict(),
            "scores": list(self.scores),
            "gap": self.gap,
            "fidelity": self.fidelity,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Member:
        """Invert `state`."""
        architecture = Architecture(state["architecture"])
        return cls(state["number"], architecture, tuple(state["scores"]), state["gap"], state["fidelity"])

    def rank(self) -> Rank:
        """Return its place among members of any kind, by the first objective alone."""
        return self.gap > 0, -self.fidelity, self.gap if self.gap > 0 else -self.scores[0], self.number

    def beats(self, other: Member) -> bool:
        """Whether it dominates the other: smaller gap first, then Pareto (Deb et al. 2002, section VI)."""
        if self.fidelity != other.fidelity:
            return self.fidelity > other.fidelity
        if self.gap or other.gap:
            return self.gap < other.gap
        return self.scores != other.scores and all(a >= b for a, b in zip(self.scores, other.scores, strict=True))


def fittest(members: Iterable[Member], count: int) -> list[Member]:
    """Return the best ``count`` members, best first; of the highest fidelity among them only.

    Feasible ones stand first: by their score when there is one objective, otherwise by non-dominated front and,
    within a front, by decreasing crowding distance (NSGA-II, Deb et al. 2002, sections III-A and III-B). Infeasible
    ones follow by their gap (section VI). Ties stand in the order of their numbers.
    """
    pool = list(members)
    feasible = [member for member in pool if member.gap <= 0]
    top = max((member.fidelity for member in feasible or pool), default=math.inf)
    ranked = [member for member in feasible if member.fidelity == top]
    if ranked and len(ranked[0].scores) > 1:
        ranked = [member for front in fronts(ranked) for member in spread(front)]
    else:
        ranked.sort(key=lambda member: (-member.scores[0], member.number))
    if len(ranked) < count:
        missing = [member for member in pool if member.gap > 0 and member.fidelity == top]
        ranked += sorted(missing, key=lambda member: (member.gap, member.number))
    return ranked[:count]


def fronts(members: Sequence[Member]) -> list[list[Member]]:
    """Return the non-dominated fronts, first front first (Deb et al. 2002, section III-A).

    Members are taken best score first, so that none is dominated by a later one and each has only to find the first
    front without a dominator (Zhang et al. 2015, efficient non-dominated sort).
    """
    found: list[list[Member]] = []
    for member in sorted(members, key=lambda m: (tuple(-score for score in m.scores), m.number)):
        for front in found:
            if not any(_dominates(other.scores, member.scores) for other in reversed(front)):
                front.append(member)
                break
        else:
            found.append([member])
    return found


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def spread(front: Sequence[Member]) -> list[Member]:
    """Return a front by decreasing crowding distance."""
    distance = crowding([member.scores for member in front])
    order = sorted(range(len(front)), key=lambda place: (-distance[place], front[place].number))
    return [front[place] for place in order]


def crowding(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the crowding distances within one front (Deb et al. 2002, section III-B).

    For each objective, the distance between the two neighbours of a point divided by the objective's range; the
    extremes get infinity. An objective that is the same, or infinite, for all of the front tells nothing and is left
    out.
    """
    distance = [0.0] * len(scores)
    for objective in range(len(scores[0]) if scores else 0):
        order = sorted(range(len(scores)), key=lambda place: scores[place][objective])
        values = [scores[place][objective] for place in order]
        width = values[-1] - values[0]
        if not 0 < width < math.inf:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        for place in range(1, len(order) - 1):
            distance[order[place]] += (values[place + 1] - values[place - 1]) / width
    return distance
