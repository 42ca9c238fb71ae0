"""What is wanted: objectives and constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, neg
from typing import Any, Literal, NamedTuple

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

Direction = Literal["maximize", "minimize"]

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([kKMGT]?)"
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BOUND = re.compile(rf"^\s*(<=|>=)\s*{_NUMBER}\s*(\*\s*(largest|smallest))?\s*$")
_RANGE = re.compile(rf"^\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*$")


@dataclass(frozen=True)
class Constraint:
    """``low <= metric <= high``.

    Attributes:
        metric: a cost or a metric.
        low: the lower limit, -inf if there is none.
        high: the upper limit, inf if there is none.
        text: as it was written.
    """

    metric: str
    low: float
    high: float
    text: str

    def violation(self, value: float) -> float:
        """Return by how much a value misses the nearer limit, relative to it; <= 0 is met, NaN misses by infinity."""
        if math.isnan(value):
            return math.inf
        low, high = self.low, self.high
        if low == -math.inf:
            return (value - high) / (abs(high) or 1.0) if high != math.inf else -math.inf
        under = (low - value) / (abs(low) or 1.0)
        return under if high == math.inf else max((value - high) / (abs(high) or 1.0), under)


def parse_constraint(metric: str, text: str, extremes: Callable[[], tuple[float, float]] | None = None) -> Constraint:
    """Read a constraint.

    Args:
        metric: what it is about.
        text: ``<= 330M``, ``>= 2M``, ``280M..330M``, ``<= 0.5 * largest``; k, M, G, T are powers of 1,000.
        extremes: gives the smallest and the largest value in the space, for limits relative to them.

    Raises:
        ConfigurationError: it cannot be read, or a range is upside down.
    """
    if isinstance(text, bool) or not isinstance(text, str):
        raise ConfigurationError(
            f"a constraint is a text such as '<= 330M', not {text!r}", path=f"problem.constraints.{metric}"
        )
    if match := _RANGE.match(text):
        low, high = (float(match[1]) * _SCALE[match[2]], float(match[3]) * _SCALE[match[4]])
        if low > high:
            raise ConfigurationError(f"the range '{text}' is upside down", path=f"problem.constraints.{metric}")
        return Constraint(metric, low, high, text)
    if match := _BOUND.match(text):
        value = float(match[2]) * _SCALE[match[3]]
        if match[5]:
            if extremes is None:
                raise ConfigurationError(
                    f"'{text}' is relative to the space, which is possible for costs only, and '{metric}' is measured",
                    path=f"problem.constraints.{metric}",
                )
            value *= extremes()[match[5].endswith("largest")]
        return (
            Constraint(metric, -math.inf, value, text)
            if match[1] == "<="
            else Constraint(metric, value, math.inf, text)
        )
    raise ConfigurationError(
        f"cannot read the constraint '{text}'; write '<= 330M', '>= 2M', '280M..330M' or '<= 0.5 * largest'",
        path=f"problem.constraints.{metric}",
    )


class _Judgement(NamedTuple):
    """The costs of an architecture, by how much the constraints on them are missed, and whether all are met."""

    problem: Problem
    costs: dict[str, float]
    gaps: dict[str, float]
    feasible: bool


class Problem:
    """Objectives and constraints over metrics and costs.

    Args:
        objectives: metric or cost -> ``maximize`` or ``minimize``; at least one, the first is the main one.
        constraints: what must hold. Constraints on costs are known before an evaluation, those on metrics after it.
        costs: cost name -> cost model, bound to the space of the network that will be delivered.
    """

    def __init__(
        self,
        objectives: Mapping[str, Direction],
        constraints: Sequence[Constraint] = (),
        costs: Mapping[str, CostModel] | None = None,
    ) -> None:
        if not objectives:
            raise ConfigurationError("at least one objective is needed", path="problem.objectives")
        self.objectives = dict(objectives)
        self.constraints = tuple(constraints)
        self.cost_models: dict[str, CostModel] = dict(costs or {})
        self._signs = {name: 1.0 if way == "maximize" else -1.0 for name, way in self.objectives.items()}
        named = [(f"{c.metric} {c.text}", c) for c in self.constraints]
        self._cost_constraints = tuple((text, c) for text, c in named if c.metric in self.cost_models)
        self._metric_constraints = tuple((text, c) for text, c in named if c.metric not in self.cost_models)

    def _judge(self, architecture: Architecture) -> _Judgement:
        """Return what is known of an architecture without evaluating it.

        It is kept with the architecture: a search asks two or three times for each of them, in different places.
        """
        known = architecture._judged
        if isinstance(known, _Judgement) and known.problem is self:
            return known
        costs: dict[str, float] = {}
        for name, model in self.cost_models.items():
            cost = model.estimate(architecture)
            costs[name] = cost if math.isfinite(cost) else math.nan  # as the record gives it back
        gaps: dict[str, float] = {}
        feasible = True
        for text, constraint in self._cost_constraints:
            gap = gaps[text] = constraint.violation(costs[constraint.metric])
            feasible = feasible and gap <= 0
        architecture._judged = known = _Judgement(self, costs, gaps, feasible)
        return known

    def costs(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the value of every cost model; NaN where there is none (it misses every limit)."""
        return self._judge(architecture).costs if self.cost_models else {}

    def violations(self, architecture: Architecture, metrics: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return constraint text -> by how much it is missed; <= 0 is met.

        Without ``metrics`` only the constraints on costs are judged, which needs no evaluation.
        """
        found = dict(self._judge(architecture).gaps) if self._cost_constraints else {}
        if metrics is not None:
            for text, c in self._metric_constraints:
                found[text] = c.violation(metrics.get(c.metric, math.nan))
        return found

    def feasible(self, architecture: Architecture) -> bool:
        """Whether all constraints on costs are met."""
        return not self._cost_constraints or self._judge(architecture).feasible

    def scores(self, trial: Trial) -> tuple[float, ...]:
        """Return the objectives of a trial with signs such that larger is better; NaN and missing count as -inf."""
        metrics, costs = trial.metrics, trial.costs
        found = []
        for name, sign in self._signs.items():
            value = metrics[name] if name in metrics else costs.get(name, math.nan)
            found.append(sign * value if value == value else -math.inf)  # NaN alone is not itself
        return tuple(found)

    def dominates(self, first: Trial, second: Trial) -> bool:
        """Whether the first trial is at least as good in every objective and better in one (Pareto dominance).

        A feasible trial dominates every infeasible one (constrained dominance, Deb et al. 2002).
        """
        if first.feasible != second.feasible:
            return first.feasible
        a, b = self.scores(first), self.scores(second)
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    def comparable(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return the complete, feasible trials of the highest fidelity among them (None counts as the highest)."""
        kept = [t for t in trials if t.state is State.COMPLETE and t.feasible]
        if len({t.fidelity for t in kept}) <= 1:  # as it mostly is
            return kept
        top = max(math.inf if t.fidelity is None else t.fidelity for t in kept)
        return [t for t in kept if (math.inf if t.fidelity is None else t.fidelity) == top]

    def rank(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return the comparable trials, best first.

        By the first objective, then the next ones; equal trials stand in the order of their numbers.
        """
        return sorted(self.comparable(trials), key=self._place)

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """Return the first of `rank`, or None if no trial is feasible."""
        best: Trial | None = None
        top: tuple[float, ...] = ()
        for trial in self.comparable(trials):
            scores = self.scores(trial)
            if best is None or scores > top or (scores == top and trial.number < best.number):
                best, top = trial, scores
        return best

    def pareto(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return the comparable trials that no other dominates, best in the first objective first.

        Of trials with equal objectives the first is kept.
        """
        if len(self._signs) == 1:
            best = self.best(trials)
            return [] if best is None else [best]
        front: list[tuple[tuple[float, ...], Trial]] = []
        for mine, trial in self._ranked(trials):
            if not any(all(map(ge, other, mine)) for other, _ in front):
                front.append((mine, trial))
        return [trial for _, trial in front]

    def _ranked(self, trials: Iterable[Trial]) -> list[tuple[tuple[float, ...], Trial]]:
        return [(self.scores(trial), trial) for trial in sorted(self.comparable(trials), key=self._place)]

    def _place(self, trial: Trial) -> tuple[tuple[float, ...], int]:
        return tuple(map(neg, self.scores(trial))), trial.number

    def describe(self) -> dict[str, Any]:
        """Return objectives and constraints as plain data."""
        return {"objectives": dict(self.objectives), "constraints": {c.metric: c.text for c in self.constraints}}
