"""A benchmark with the objectives and constraints of a comparison, and the true values of all its networks."""

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
from automl_nas_benchmarks.tables.table_costs import Listed

METRIC = "accuracy"
"""The name of a benchmark's signal and truth in objectives."""


LISTED = "listed"
"""The cost that is 1 for the networks of a benchmark's table, 0 for others."""

_MILLIONS = {"mflops": "flops", "mparams": "params"}
"""Costs that a table gives in millions -> their name in single units, as in the rest of the package."""


@dataclass(frozen=True)
class _Row:
    architecture: Architecture
    function: str
    truth: float
    costs: Mapping[str, float]


@final
class BenchmarkProblem:
    """A benchmark, its problem, and the best results that are possible.

    Strategies receive the signal as the metric ``accuracy``, and all costs of the benchmark that are known without a
    measurement; costs on devices, and `LISTED`, are added if an objective or a constraint names them.

    Args:
        label: its name in the comparison.
        benchmark: the source of signals, true values and costs.
        settings: constraints and objectives.

    Attributes:
        problem: the problem that strategies receive.

    Raises:
        ConfigurationError: the benchmark does not have the metric or cost of an objective or a constraint.
        InfeasibleError: no network meets a constraint; the message contains the value of the nearest network.
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
        """Whether the problem has more than one objective."""
        return len(self.problem.objectives) > 1

    def evaluate(self, number: int, proposal: Proposal) -> Trial:
        """Return the trial of a proposal, as a run would record it; FAILED if the table lacks the network.

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
        """Return the true value of a network; NaN if the table does not have it."""
        try:
            return self.benchmark.truth(architecture)
        except SpaceError:
            return math.nan

    @cached_property
    def truths(self) -> NDArray[np.float64]:
        """The true values of all distinct feasible functions, best first; shape ``(functions,)``.

        A function is feasible if one of the networks that compute it is feasible.

        Raises:
            InfeasibleError: no network is feasible.
        """
        best: dict[str, float] = {}
        for row in self._feasible:
            best[row.function] = max(row.truth, best.get(row.function, -math.inf))
        return np.sort(np.array(list(best.values())))[::-1]

    def threshold(self, share: float) -> float:
        """Return the lowest true value among the best ``share`` of the distinct feasible functions.

        These are the best ceil(share * n) functions, and all that equal the last one of them.
        """
        return float(self.truths[max(1, math.ceil(share * len(self.truths) - 1e-9)) - 1])

    def count(self, share: float) -> int:
        """Return the number of distinct feasible functions whose true value reaches `threshold`."""
        return int((self.truths >= self.threshold(share)).sum())

    def better(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of distinct feasible functions that are truly better, for each true value."""
        above = np.searchsorted(-self.truths, -truth, side="left")
        return np.asarray(above / len(self.truths), dtype=np.float64)

    def true_scores(self, architecture: Architecture) -> tuple[float, ...]:
        """Return the objectives with the true value instead of the signal; larger is better, -inf where missing."""
        return self._scores(self.truth(architecture), self.problem.costs(architecture))

    def volume_share(self, points: Sequence[Sequence[float]]) -> float:
        """Return the hypervolume of points as a share of the hypervolume of the true front.

        The reference point has the worst value of all feasible networks in each objective.

        Args:
            points: true scores, one tuple with all objectives for each network; larger is better.
        """
        reference, whole = self._volume
        return hypervolume(points, reference) / whole if whole else 1.0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the networks, signals, true values and costs of the benchmark."""
        digest = hashlib.sha256()
        for row in self._rows:
            signal = self.benchmark.signal_source(row.architecture)
            content = (row.architecture.key, row.function, signal, row.truth, sorted(row.costs.items()))
            digest.update(repr(content).encode())
        return digest.hexdigest()

    @cached_property
    def _rows(self) -> list[_Row]:
        rows = []
        for code in self._table.codes:
            architecture = self._table.coding.architecture(code)
            costs = {
                name: model.lookup(architecture) if isinstance(model, NanSafeCost) else model.estimate(architecture)
                for name, model in self.problem.cost_models.items()
            }
            function = self.space.canonical(architecture).key
            rows.append(_Row(architecture, function, self.truth(architecture), costs))
        return rows

    @cached_property
    def _feasible(self) -> list[_Row]:
        rows = [row for row in self._rows if not math.isnan(row.truth) and self._meets(row)]
        if not rows:
            raise InfeasibleError(f"constraints: no network of '{self.label}' meets all of them together; relax one")
        return rows

    @cached_property
    def _volume(self) -> tuple[tuple[float, ...], float]:
        points = np.array([self._scores(row.truth, row.costs) for row in self._feasible])
        points = points[np.isfinite(points).all(axis=1)]
        reference = tuple(points.min(axis=0).tolist())
        return reference, hypervolume(_front(points), reference)

    def _scores(self, truth: float, costs: Mapping[str, float]) -> tuple[float, ...]:
        values = {**costs, METRIC: truth}
        signed = [
            values[n] if direction == "maximize" else -values[n] for n, direction in self.problem.objectives.items()
        ]
        return tuple(-math.inf if math.isnan(value) else value for value in signed)

    def _meets(self, row: _Row) -> bool:
        return all(c.violation(row.costs[c.metric]) <= 0 for c in self.problem.constraints)

    def _constraint(self, name: str, text: str) -> Constraint:
        # The cost of a network that does not run on a device is infinite.
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
    """A cost in single units; infinity, which meets no limit, for networks that the table lacks.

    Args:
        model: the cost model of the table.
        scale: factor of its values. With a scale other than 1 the costs are rounded to whole numbers.
    """

    metric: ClassVar[str] = "table_cost"
    unit: ClassVar[str] = "as in the table"

    def __init__(self, model: CostModel, scale: float = 1.0) -> None:
        self._model, self._scale = model, scale
        self.metric = model.metric  # type: ignore[misc]
        self.unit, self.integral = ("", True) if scale != 1 else (model.unit, model.integral)  # type: ignore[misc]

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the path of the network itself: a table has no values of modules."""
        return {"": self.estimate(architecture)}

    def estimate(self, architecture: Architecture) -> float:
        """Return the value of the model; infinity if the table lacks the architecture."""
        value = self.lookup(architecture)
        return math.inf if math.isnan(value) else value

    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        """Return the listing of the model."""
        listing = self._model.listing()
        return None if listing is None else (listing[0], self._scaled(listing[1]))

    def _scaled(self, value: float) -> float:
        return value if self._scale == 1 or not math.isfinite(value) else float(round(value * self._scale))

    def lookup(self, architecture: Architecture) -> float:
        """Return the value of the model; NaN if the table lacks the architecture."""
        try:
            value = self._model.estimate(architecture)
        except SpaceError:
            return math.nan
        return self._scaled(value)


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
    devices.setdefault(LISTED, Listed.of_table(benchmark.truth_source.table))
    for section, names in (("objectives", objectives), ("constraints", constraints)):
        for name in names:
            if name == METRIC:
                if section == "objectives":
                    continue
                raise ConfigurationError(
                    "the accuracy is the objective; constraints are on costs", path=f"constraints.{METRIC}"
                )
            if name in devices:
                models[name] = devices[name]
            elif name not in models:
                raise ConfigurationError(
                    f"the benchmark '{label}' has no cost '{name}'{did_you_mean(name, (*models, *devices))}",
                    path=section if section == "objectives" else f"{section}.{name}",
                )
    return models


def _objectives(objectives: Sequence[str] | Mapping[str, str]) -> dict[str, Direction]:
    if isinstance(objectives, Mapping):
        pairs: list[tuple[str, Any]] = list(objectives.items())
    else:
        pairs = [(name, "maximize" if name == METRIC else "minimize") for name in objectives]
    if pairs[0][0] != METRIC:
        raise ConfigurationError(
            f"the first objective must be '{METRIC}', which every benchmark has, not '{pairs[0][0]}'",
            path="objectives",
        )
    for name, direction in pairs:
        if direction not in ("maximize", "minimize"):
            raise ConfigurationError(f"must be maximize or minimize, not '{direction}'", path=f"objectives.{name}")
    return dict(pairs)


def _front(points: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Return the points that no other dominates; larger is better."""
    front: list[tuple[float, ...]] = []
    for point in sorted(map(tuple, points.tolist()), reverse=True):
        if not any(all(a >= b for a, b in zip(other, point, strict=True)) for other in front):
            front.append(point)
    return front
