"""Members (the part of a trial that selection uses), and the selection of the best members."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from automl_nas.evaluation import State
from automl_nas.space import Architecture
from automl_nas.strategy import Problem, Trial

Rank: TypeAlias = tuple[bool, float, float, int]
"""A sort key that orders members of one objective as `fittest` does, best first."""


class Member(NamedTuple):
    """An evaluated candidate.

    Attributes:
        number: the number of the trial.
        architecture: the candidate.
        scores: its objectives, larger is better (`Problem.scores`).
        violation: `Trial.total_violation`; 0 if it is feasible.
        fidelity: `Trial.effective_fidelity`.
    """

    number: int
    architecture: Architecture
    scores: tuple[float, ...]
    violation: float
    fidelity: float

    @classmethod
    def of(cls, problem: Problem, trial: Trial) -> Member | None:
        """Return the member of a trial; None unless the trial is COMPLETE and has a number for every objective."""
        if trial.state is not State.COMPLETE:
            return None
        scores = problem.scores(trial)
        if -math.inf in scores:
            return None
        return cls(trial.number, trial.architecture, scores, trial.total_violation, trial.effective_fidelity)

    def state(self) -> dict[str, Any]:
        """Return the member as plain data."""
        return {
            "number": self.number,
            "architecture": self.architecture.to_dict(),
            "scores": list(self.scores),
            "gap": self.violation,
            "fidelity": self.fidelity,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Member:
        """Invert `state`."""
        architecture = Architecture(state["architecture"])
        return cls(state["number"], architecture, tuple(state["scores"]), state["gap"], state["fidelity"])

    def rank(self) -> Rank:
        """Return the sort key of the member: feasible first, highest fidelity, then violation or first objective."""
        infeasible = self.violation > 0
        return infeasible, -self.fidelity, self.violation if infeasible else -self.scores[0], self.number

    def beats(self, other: Member) -> bool:
        """Whether the member dominates another: constrained dominance (Deb et al. 2002, section VI).

        The higher fidelity, then the smaller violation, then Pareto dominance decides.
        """
        if self.fidelity != other.fidelity:
            return self.fidelity > other.fidelity
        if self.violation or other.violation:
            return self.violation < other.violation
        return self.scores != other.scores and all(a >= b for a, b in zip(self.scores, other.scores, strict=True))


def fittest(members: Iterable[Member], count: int) -> list[Member]:
    """Return the best ``count`` members of the highest fidelity, best first.

    Feasible members come first: with one objective in the order of their score, otherwise by non-dominated front and,
    within a front, by decreasing crowding distance (NSGA-II, Deb et al. 2002, sections III-A and III-B). Infeasible
    members follow in the order of their violation (section VI). Ties are in the order of their numbers.
    """
    pool = list(members)
    feasible = [member for member in pool if member.violation <= 0]
    top = max((member.fidelity for member in feasible or pool), default=math.inf)
    ranked = [member for member in feasible if member.fidelity == top]
    if ranked and len(ranked[0].scores) > 1:
        ranked = [member for front in fronts(ranked) for member in by_crowding(front)]
    else:
        ranked.sort(key=lambda member: (-member.scores[0], member.number))
    if len(ranked) < count:
        infeasible = [member for member in pool if member.violation > 0 and member.fidelity == top]
        ranked += sorted(infeasible, key=lambda member: (member.violation, member.number))
    return ranked[:count]


def fronts(members: Sequence[Member]) -> list[list[Member]]:
    """Return the non-dominated fronts, first front first (Deb et al. 2002, section III-A).

    Members are processed in the order of their scores, best first, so that a later member never dominates an earlier
    one, and each joins the first front without a dominator (Zhang et al. 2015, efficient non-dominated sort).
    """
    result: list[list[Member]] = []
    for member in sorted(members, key=lambda m: (tuple(-score for score in m.scores), m.number)):
        for front in result:
            if not any(_dominates(other.scores, member.scores) for other in reversed(front)):
                front.append(member)
                break
        else:
            result.append([member])
    return result


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first != second and all(a >= b for a, b in zip(first, second, strict=True))


def by_crowding(front: Sequence[Member]) -> list[Member]:
    """Return the members of a front by decreasing crowding distance; ties in the order of their numbers."""
    distance = crowding([member.scores for member in front])
    order = sorted(range(len(front)), key=lambda place: (-distance[place], front[place].number))
    return [front[place] for place in order]


def crowding(scores: Sequence[Sequence[float]]) -> list[float]:
    """Return the crowding distances within one front (Deb et al. 2002, section III-B).

    The crowding distance of a point is the sum over objectives of the distance between its two neighbours, divided by
    the range of the objective; the extremes get infinity. An objective whose range is 0 or infinite is ignored.

    Args:
        scores: one row for each point, shape ``(n, objectives)``.
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
