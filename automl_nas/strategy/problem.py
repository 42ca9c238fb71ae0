"""What a search optimises: objectives and constraints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, neg
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation.costs.model import CostModel, checked_cost
from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture
from automl_nas.space.exclusions import Exclusions
from automl_nas.strategy.trial import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from automl_nas.space.selection import Selection

Direction = Literal["maximize", "minimize"]

_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([kKMGT]?)"
_SCALE = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BOUND = re.compile(rf"^\s*(<=|>=)\s*{_NUMBER}\s*(\*\s*(largest|smallest))?\s*$")
_RANGE = re.compile(rf"^\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*$")

_NUMBERS = frozenset((int, float))

EXCLUDED = "excluded combinations <= 0"
"""The name of the violation of `SearchSpace.excluded`."""

_CACHED = 4096
"""Number of architectures whose costs and violations a `Problem` caches.

With additive costs the cache saves 3 of 36 microseconds a trial (``benchmarks/driver_overhead.py``, batch 100). With
costs that are counted by tracing a network, each trial takes one trace instead of two or three; a trace takes about
200 ms for the FLOPs of the space ``dso``.
"""


@dataclass(frozen=True)
class Constraint:
    """``low <= metric <= high``.

    Attributes:
        metric: a cost or a metric.
        low: the lower limit, -inf without one.
        high: the upper limit, inf without one.
        text: the constraint as the user wrote it.
    """

    metric: str
    low: float
    high: float
    text: str

    def violation(self, value: float) -> float:
        """Return by how much a value misses a limit, relative to it: at most 0 if it is met, infinity for NaN."""
        if math.isnan(value):
            return math.inf
        low, high = self.low, self.high
        if low == -math.inf:
            return (value - high) / (abs(high) or 1.0) if high != math.inf else -math.inf
        under = (low - value) / (abs(low) or 1.0)
        return under if high == math.inf else max((value - high) / (abs(high) or 1.0), under)


def parse_constraint(metric: str, text: str, extremes: Callable[[], tuple[float, float]] | None = None) -> Constraint:
    """Return the constraint that a string describes.

    Args:
        metric: the metric or cost that is constrained.
        text: ``<= 330M``, ``>= 2M``, ``280M..330M``, ``<= 0.5 * largest``; k, M, G, T are powers of 1,000.
        extremes: returns the smallest and the largest value in the space, for limits relative to them.

    Raises:
        ConfigurationError: the string is not a constraint, or the lower bound of a range is above its upper bound.
    """
    if isinstance(text, bool) or not isinstance(text, str):
        raise ConfigurationError(
            f"a constraint must be a string such as '<= 330M', not {text!r}", path=f"problem.constraints.{metric}"
        )
    if match := _RANGE.match(text):
        low, high = (float(match[1]) * _SCALE[match[2]], float(match[3]) * _SCALE[match[4]])
        if low > high:
            raise ConfigurationError(
                f"the range '{text}' has its lower bound above its upper bound; write the smaller number first",
                path=f"problem.constraints.{metric}",
            )
        return Constraint(metric, low, high, text)
    if match := _BOUND.match(text):
        value = float(match[2]) * _SCALE[match[3]]
        if match[5]:
            if extremes is None:
                raise ConfigurationError(
                    f"'{text}' is relative to the space, which is possible for costs only, and '{metric}' is measured: "
                    "write a number as its limit",
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
    """The costs of an architecture, the violations of the constraints on costs, and whether all of them are met."""

    architecture: Architecture
    costs: dict[str, float]
    violations: dict[str, float]
    feasible: bool


class Problem:
    """Objectives and constraints over metrics and costs.

    Args:
        objectives: metric or cost -> ``maximize`` or ``minimize``; at least one. The first is the main objective.
        constraints: limits of costs, checked before an evaluation, and of metrics, checked after it.
        costs: cost name -> cost model, bound to the space of the delivered network.
        exclusions: combinations of options that no feasible architecture has; None: none are excluded. The costs of an
            architecture that has one are NaN: its network may not exist.
    """

    def __init__(
        self,
        objectives: Mapping[str, Direction],
        constraints: Sequence[Constraint] = (),
        costs: Mapping[str, CostModel] | None = None,
        exclusions: Exclusions | None = None,
    ) -> None:
        if not objectives:
            raise ConfigurationError("at least one objective is needed", path="problem.objectives")
        self.objectives = dict(objectives)
        self.constraints = tuple(constraints)
        self.cost_models: dict[str, CostModel] = dict(costs or {})
        self._signs = {name: 1.0 if way == "maximize" else -1.0 for name, way in self.objectives.items()}
        described = [(f"{constraint.metric} {constraint.text}", constraint) for constraint in self.constraints]
        self._cost_constraints = tuple(item for item in described if item[1].metric in self.cost_models)
        self._limited = tuple(name for name in self.cost_models if any(c.metric == name for c in self.constraints))
        self._metric_constraints = tuple(item for item in described if item[1].metric not in self.cost_models)
        self.exclusions = exclusions or None
        self._judged = bool(self._cost_constraints) or self.exclusions is not None
        self._judgements: dict[int, _Judgement] = {}

    def _judge(self, architecture: Architecture) -> _Judgement:
        """Return costs and violations of an architecture without evaluating it.

        They are cached by the identity of the architecture: a search asks for them two or three times, in different
        functions. The cache holds the architecture itself, so that no other object gets the same identity.
        """
        cached = self._judgements.get(id(architecture))
        if cached is not None and cached.architecture is architecture:
            return cached
        excluded = 0 if self.exclusions is None else len(self.exclusions.matched(architecture))
        costs: dict[str, float] = dict.fromkeys(self.cost_models, math.nan) if excluded else {}
        # The other costs, if they are asked for: rejected candidates would cost several times as much time.
        for name in () if excluded else self._limited:
            costs[name] = self._cost(name, architecture)
        violations: dict[str, float] = {}
        feasible = True
        for text, constraint in self._cost_constraints:
            violation = violations[text] = constraint.violation(costs[constraint.metric])
            feasible = feasible and violation <= 0
        if self.exclusions is not None:
            violations[EXCLUDED] = float(excluded)
            feasible = feasible and not excluded
        if len(self._judgements) >= _CACHED:
            self._judgements.clear()
        judgement = self._judgements[id(architecture)] = _Judgement(architecture, costs, violations, feasible)
        return judgement

    def _cost(self, name: str, architecture: Architecture) -> float:
        model = self.cost_models[name]
        cost = model.estimate(architecture)
        if not (type(cost) in _NUMBERS and 0 <= cost < math.inf):
            cost = checked_cost(cost, name, model, architecture)
        return cost if cost != math.inf else math.nan  # as the ledger returns it

    def costs(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the value of every cost model; NaN, which violates every limit, where a model returns infinity."""
        if not self.cost_models:
            return {}
        costs = self._judge(architecture).costs
        if len(costs) < len(self.cost_models):
            every = {
                name: costs[name] if name in costs else self._cost(name, architecture) for name in self.cost_models
            }
            costs.clear()  # in the order of the cost models
            costs.update(every)
        return costs

    def violations(self, architecture: Architecture, metrics: Mapping[str, float] | None = None) -> dict[str, float]:
        """Return constraint text -> by how much the constraint is missed, at most 0 if it is met.

        Without ``metrics`` only the constraints on costs are checked, which needs no evaluation. If the problem has
        exclusions, `EXCLUDED` is the number of excluded combinations that the architecture has.
        """
        violations = dict(self._judge(architecture).violations) if self._judged else {}
        if metrics is not None:
            for text, constraint in self._metric_constraints:
                violations[text] = constraint.violation(metrics.get(constraint.metric, math.nan))
        return violations

    def feasible(self, architecture: Architecture) -> bool:
        """Whether all constraints on costs are met, and no combination of options is excluded."""
        return not self._judged or self._judge(architecture).feasible

    def expected_cost(self, name: str, selection: Selection) -> Tensor:
        """Return the expected cost of a soft selection, differentiable in its tensors: for a penalty in a loss.

        It is linear in the weights of the options: exact if the weights of each `Choice` are probabilities that sum to
        1 and those of a `Subset` the probabilities of its elements. In a run the table is built at the first call.

        Args:
            name: of the cost, as in the configuration.
            selection: a value, a tensor of shape ``(options,)`` or `Weighted` for each decision.

        Raises:
            ConfigurationError: the problem has no such cost, or the cost is not the sum of costs of options.
        """
        from automl_nas.evaluation.costs.tabulated import TabulatedCost

        model = self.cost_models.get(name)
        if model is None:
            hint = did_you_mean(name, self.cost_models) if self.cost_models else "; it has none"
            raise ConfigurationError(f"the problem has no cost '{name}'{hint}", path="problem.costs")
        if not isinstance(model, TabulatedCost):
            raise ConfigurationError(
                f"the cost '{name}' has no table; outside of a run, pass TabulatedCost({type(model).__name__}(...), "
                "space) to the Problem",
                path=f"problem.costs.{name}",
            )
        if model.table is None:
            raise ConfigurationError(
                f"the cost '{name}' has no expectation: it is not the sum of the costs of options ({model.reason}); "
                "take another cost for the penalty, and keep this one as a constraint",
                path=f"problem.costs.{name}",
            )
        return model.table.expectation(selection)

    def scores(self, trial: Trial) -> tuple[float, ...]:
        """Return the objectives of a trial, negated if they are minimised; NaN and missing ones count as -inf."""
        metrics, costs = trial.metrics, trial.costs
        scores = []
        for name, sign in self._signs.items():
            value = metrics[name] if name in metrics else costs.get(name, math.nan)
            scores.append(sign * value if value == value else -math.inf)  # only NaN differs from itself
        return tuple(scores)

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
        feasible = [trial for trial in trials if trial.state is State.COMPLETE and trial.feasible]
        if len({trial.fidelity for trial in feasible}) <= 1:  # the usual case
            return feasible
        highest = max(trial.effective_fidelity for trial in feasible)
        return [trial for trial in feasible if trial.effective_fidelity == highest]

    def rank(self, trials: Iterable[Trial]) -> list[Trial]:
        """Return the comparable trials, best first.

        They are ordered by the first objective, then by the next ones, then by their numbers.
        """
        return sorted(self.comparable(trials), key=self._sort_key)

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
        """Return the comparable trials that no other trial dominates, best in the first objective first.

        Of trials with equal objectives only the first is returned.
        """
        if len(self._signs) == 1:
            best = self.best(trials)
            return [] if best is None else [best]
        front: list[tuple[tuple[float, ...], Trial]] = []
        for scores, trial in self._ranked(trials):
            if not any(all(map(ge, other, scores)) for other, _ in front):
                front.append((scores, trial))
        return [trial for _, trial in front]

    def _ranked(self, trials: Iterable[Trial]) -> list[tuple[tuple[float, ...], Trial]]:
        return [(self.scores(trial), trial) for trial in sorted(self.comparable(trials), key=self._sort_key)]

    def _sort_key(self, trial: Trial) -> tuple[tuple[float, ...], int]:
        return tuple(map(neg, self.scores(trial))), trial.number

    def describe(self) -> dict[str, Any]:
        """Return objectives and constraints as plain data."""
        return {"objectives": dict(self.objectives), "constraints": {c.metric: c.text for c in self.constraints}}
