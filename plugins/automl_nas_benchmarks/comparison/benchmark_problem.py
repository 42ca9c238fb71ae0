"""A benchmark with the problem that a comparison poses on it, and the whole truth about that."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, InfeasibleError, SpaceError, did_you_mean
from automl_nas.evaluation import CostModel, State
from automl_nas.space import Architecture
from automl_nas.strategy import Constraint, Direction, Problem, Proposal, Trial, parse_constraint
from automl_nas_benchmarks.benchmark import Benchmark
from automl_nas_benchmarks.comparison.settings import ComparisonSettings
from automl_nas_benchmarks.comparison.statistics import hypervolume

METRIC = "accuracy"
"""What a benchmark's signal and truth are called in objectives."""


_MILLIONS = {"mflops": "flops", "mparams": "params"}
"""Costs that a table counts in millions, and what they are called when counted one by one, as everywhere else."""


@dataclass(frozen=True)
class _Row:
    architecture: Architecture
    function: str
    truth: float
    costs: Mapping[str, float]


@final
class BenchmarkProblem:
    """A benchmark, the problem on it, and what the best possible is.

    Strategies are given the signal as ``accuracy``, and all costs of the benchmark that are known for any network
    without measuring it; costs on devices are added if an objective or a constraint names them.

    Args:
        label: what it is called in the comparison.
        benchmark: where signals, truths and costs come from.
        settings: constraints and objectives.

    Attributes:
        problem: what strategies are given.

    Raises:
        ConfigurationError: an objective or a constraint on something that the benchmark has not.
        InfeasibleError: no network meets a constraint; says what the nearest one has.
    """

    def __init__(self, label: str, benchmark: Benchmark, settings: ComparisonSettings) -> None:
        self.label, self.benchmark, self.space = label, benchmark, benchmark.space
        self._table = benchmark.truth_source.table
        objectives = _objectives(settings.objectives)
        models = _cost_models(benchmark, label, objectives, settings.constraints)
        self.problem = Problem(objectives, (), models)
        constraints = [self._constraint(name, text) for name, text in settings.constraints.items()]
        self.problem = Problem(objectives, constraints, models)

    @property
    def unit(self) -> str:
        """The unit of the true values; empty if it is not known."""
        return self._table.columns[self.benchmark.truth_source.column].unit

    @property
    def several(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.problem.objectives) > 1

    def evaluate(self, number: int, proposal: Proposal) -> Trial:
        """Return the trial of a proposal, as a run would record it; it fails if the table lacks the network.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        architecture = proposal.architecture
        try:
            metrics = {METRIC: self.benchmark.signal(architecture)}
            state, error = State.COMPLETE, ""
        except SpaceError as reason:
            self.space.validate(architecture)
            metrics, state, error = {}, State.FAILED, str(reason)
        return Trial(
            number=number,
            architecture=architecture,
            metrics=metrics,
            costs=self.problem.costs(architecture),
            violations=self.problem.violations(architecture),
            state=state,
            error=error,
            info=proposal.info,
        )

    def truth(self, architecture: Architecture) -> float:
        """Return what a network is worth; NaN if the table does not say."""
        try:
            return self.benchmark.truth(architecture)
        except SpaceError:
            return math.nan

    @cached_property
    def truths(self) -> NDArray[np.float64]:
        """The true values of all distinct feasible functions, best first.

        A function is feasible if one of the networks that compute it is.

        Raises:
            InfeasibleError: there is none.
        """
        best: dict[str, float] = {}
        for row in self._feasible:
            best[row.function] = max(row.truth, best.get(row.function, -math.inf))
        return np.sort(np.array(list(best.values())))[::-1]

    def threshold(self, share: float) -> float:
        """Return the true value that the best ``share`` of the distinct feasible functions reach.

        There are ceil(share * n) of them, and more where others equal the last one.
        """
        return float(self.truths[max(1, math.ceil(share * len(self.truths) - 1e-9)) - 1])

    def count(self, share: float) -> int:
        """Return how many functions reach `threshold`."""
        return int((self.truths >= self.threshold(share)).sum())

    def better(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of distinct feasible functions that are truly better, for each true value."""
        above = np.searchsorted(-self.truths, -truth, side="left")
        return np.asarray(above / len(self.truths), dtype=np.float64)

    def true_scores(self, architecture: Architecture) -> tuple[float, ...]:
        """Return the objectives with the true value in place of the signal; larger is better, -inf where one lacks."""
        return self._scores(self.truth(architecture), self.problem.costs(architecture))

    def volume_share(self, points: Sequence[Sequence[float]]) -> float:
        """Return the hypervolume of points as a share of that of the true front.

        The reference point has the worst value of all feasible networks in each objective.
        """
        reference, whole = self._volume
        return hypervolume(points, reference) / whole if whole else 1.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that searches can see of the benchmark: networks, signals, truths, costs."""
        digest = hashlib.sha256()
        for row in self._rows:
            told = self.benchmark.signal_source(row.architecture)
            seen = (row.architecture.key, row.function, told, row.truth, sorted(row.costs.items()))
            digest.update(repr(seen).encode())
        return digest.hexdigest()

    @cached_property
    def _rows(self) -> list[_Row]:
        found = []
        for code in self._table.codes:
            architecture = self._table.coding.architecture(code)
            costs = {name: model.estimate(architecture) for name, model in self.problem.cost_models.items()}
            function = self.space.canonical(architecture).key
            found.append(_Row(architecture, function, self.truth(architecture), costs))
        return found

    @cached_property
    def _feasible(self) -> list[_Row]:
        found = [row for row in self._rows if not math.isnan(row.truth) and self._meets(row)]
        if not found:
            raise InfeasibleError(f"constraints: no network of '{self.label}' meets all of them together; relax one")
        return found

    @cached_property
    def _volume(self) -> tuple[tuple[float, ...], float]:
        points = np.array([self._scores(row.truth, row.costs) for row in self._feasible])
        points = points[np.isfinite(points).all(axis=1)]
        reference = tuple(points.min(axis=0).tolist())
        return reference, hypervolume(_front(points), reference)

    def _scores(self, truth: float, costs: Mapping[str, float]) -> tuple[float, ...]:
        values = {**costs, METRIC: truth}
        signed = [values[name] if way == "maximize" else -values[name] for name, way in self.problem.objectives.items()]
        return tuple(-math.inf if math.isnan(value) else value for value in signed)

    def _meets(self, row: _Row) -> bool:
        return all(c.violation(row.costs[c.metric]) <= 0 for c in self.problem.constraints)

    def _constraint(self, name: str, text: str) -> Constraint:
        # What does not run on a device costs infinitely much there.
        values = [row.costs[name] for row in self._rows if math.isfinite(row.costs[name])]
        constraint = parse_constraint(name, text, lambda: (min(values), max(values)))
        nearest = min(values, key=constraint.violation)
        if constraint.violation(nearest) > 0:
            raise InfeasibleError(
                f"constraints.{name}: no network of '{self.label}' meets '{name} {text}'; the nearest one has "
                f"{nearest:,.6g}"
            )
        return constraint


@final
class NanSafeCost(CostModel):
    """A cost as strategies are told of it: single units, and NaN, which meets no limit, where the table has no row.

    Args:
        model: what is read from the table.
        scale: what its values are multiplied with; they are whole numbers then.
    """

    metric: ClassVar[str] = "told"
    unit: ClassVar[str] = "as in the table"

    def __init__(self, model: CostModel, scale: float = 1.0) -> None:
        self._model, self._scale = model, scale
        self.metric = model.metric  # type: ignore[misc]
        self.unit, self.integral = ("", True) if scale != 1 else (model.unit, model.integral)  # type: ignore[misc]

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the network's own path: a table knows no modules."""
        return {"": self.estimate(architecture)}

    def estimate(self, architecture: Architecture) -> float:
        """Return the model's value; NaN where it has none."""
        try:
            value = self._model.estimate(architecture)
        except SpaceError:
            return math.nan
        return value if self._scale == 1 or math.isnan(value) else float(round(value * self._scale))


def _cost_models(
    benchmark: Benchmark, label: str, objectives: Mapping[str, Direction], constraints: Mapping[str, str]
) -> dict[str, CostModel]:
    whole = benchmark.truth_source.table.complete
    models: dict[str, CostModel] = {}
    for name, model in benchmark.costs.items():
        if name in _MILLIONS:
            models[_MILLIONS[name]] = NanSafeCost(model, 1e6)
        else:
            models[name] = model if whole else NanSafeCost(model)
    devices = {name: model if whole else NanSafeCost(model) for name, model in benchmark.devices.items()}
    for section, names in (("objectives", objectives), ("constraints", constraints)):
        for name in names:
            if name == METRIC:
                if section == "objectives":
                    continue
                raise ConfigurationError(
                    "the accuracy is what is searched for; constraints are on costs", path=f"constraints.{METRIC}"
                )
            if name in devices:
                models[name] = devices[name]
            elif name not in models:
                raise ConfigurationError(
                    f"'{name}' is no cost of the benchmark '{label}'{did_you_mean(name, (*models, *devices))}",
                    path=section if section == "objectives" else f"{section}.{name}",
                )
    return models


def _objectives(given: Sequence[str] | Mapping[str, str]) -> dict[str, Direction]:
    if isinstance(given, Mapping):
        pairs: list[tuple[str, Any]] = list(given.items())
    else:
        pairs = [(name, "maximize" if name == METRIC else "minimize") for name in given]
    if pairs[0][0] != METRIC:
        raise ConfigurationError(
            f"the first objective is '{METRIC}', which every benchmark has, not '{pairs[0][0]}'", path="objectives"
        )
    for name, way in pairs:
        if way not in ("maximize", "minimize"):
            raise ConfigurationError(f"'{way}' is no direction: maximize or minimize", path=f"objectives.{name}")
    return dict(pairs)


def _front(points: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Return the points that no other dominates; larger is better."""
    kept: list[tuple[float, ...]] = []
    for point in sorted(map(tuple, points.tolist()), reverse=True):
        if not any(all(a >= b for a, b in zip(other, point, strict=True)) for other in kept):
            kept.append(point)
    return kept
