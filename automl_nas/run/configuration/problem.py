"""Resolves the ``problem`` sections and builds their problems; checks that some architecture meets each limit."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from automl_nas.errors import ConfigurationError, InfeasibleError, SpaceError, did_you_mean
from automl_nas.evaluation.costs.joint_counting import CostSampler
from automl_nas.evaluation.costs.knapsack import CostInterval
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.plugin.settings import from_config
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.repeatable_costs import check_repeatable
from automl_nas.run.configuration.sections import DEFAULT_COSTS, ProblemSettings
from automl_nas.space.exclusions import Exclusions
from automl_nas.strategy.problem import Constraint, Problem, parse_constraint
from automl_nas.streams import stream_seed

_log = logging.getLogger("automl_nas")

SEARCHED = " of search"
"""Suffix of the name of a cost that describes the network in the search space instead of the delivered network."""


class ProblemBuilder:
    """Resolves the ``problem`` sections of a run and builds their problems; each cost model is constructed once.

    Args:
        context: the spaces, the task and what constructs cost models.
        section: the top-level problem, as written.
        measurements: key in `measured` -> state of that cost model, from an earlier process of the run.

    Attributes:
        settings: the top-level problem, resolved.
        exclusions: the combinations of options that the search space or the final space excludes.
        models: all cost models; the key consists of name, space and settings.
        measured: those that measure.

    Raises:
        ConfigurationError: a cost model is unknown or refuses a setting; the objectives must be named.
    """

    def __init__(self, context: RunContext, section: ProblemSettings, measurements: Mapping[str, Any]) -> None:
        self._context, self._components, self._measurements = context, context.components, measurements
        self._spaces = {"final": context.final_space, "search": context.space}
        self.exclusions = Exclusions(context.space.decisions, [*context.space.excluded, *context.final_space.excluded])
        self._named = bool(section.objectives)
        self.models: dict[str, TabulatedCost] = {}
        self.measured: dict[str, MeasuredCost] = {}
        self._announced: set[str] = set()
        registered = self._components.registry.names("cost_models")
        default_costs = [name for name in DEFAULT_COSTS if name in registered and context.final_space.input_shape]
        costs = self._costs(section, "problem", default=default_costs, top_costs=())
        self.settings = ProblemSettings(
            dict(section.objectives) or self._default_objective(), dict(section.constraints), costs
        )

    def merged(self, section: ProblemSettings, path: str) -> ProblemSettings:
        """Resolve the problem of a stage: its objectives if it has any; its constraints and costs over the top ones.

        Args:
            section: as written.
            path: of the section.

        Raises:
            ConfigurationError: a cost model is unknown or refuses a setting.
        """
        top = self.settings
        costs = self._costs(section, path, default=(), top_costs=top.costs)
        constraints = {**top.constraints, **section.constraints}
        return ProblemSettings(
            dict(section.objectives) or top.objectives,
            {name: limit for name, limit in constraints.items() if limit is not None},
            {**top.costs, **costs},
        )

    def own_section(self, section: ProblemSettings, default_metric: str | None) -> ProblemSettings:
        """Return the problem section of a stage with the objective that its evaluator prefers, if none is named.

        Args:
            section: the problem section of the stage, as written.
            default_metric: `automl_nas.evaluation.Evaluator.default_metric` of the evaluator of the stage.
        """
        metrics = {} if self._context.task is None else self._context.task.metrics
        if self._named or section.objectives or default_metric is None or default_metric not in metrics:
            return section
        return replace(section, objectives={default_metric: metrics[default_metric]})

    def _costs(
        self, section: ProblemSettings, path: str, *, default: Sequence[str], top_costs: Container[str]
    ) -> dict[str, Any]:
        """Resolve the cost models of a section, and those that only its objectives and constraints name."""
        costs = list(default) if section.costs is None else section.costs
        if isinstance(costs, str):
            costs = [costs]
        if isinstance(costs, list):
            specs = [from_config(item, path=f"{path}.costs[{number}]") for number, item in enumerate(costs)]
            costs = {spec["name"]: item for spec, item in zip(specs, costs, strict=True)}
        if not isinstance(costs, Mapping):
            raise ConfigurationError(
                f"must be a list of cost models or a mapping name -> cost model, not {costs!r}", path=f"{path}.costs"
            )
        resolved = {
            name: self._components.resolve("cost_models", spec, f"{path}.costs.{name}") for name, spec in costs.items()
        }
        registered = self._components.registry.names("cost_models")
        for name in (*section.objectives, *section.constraints):
            if name not in resolved and name in registered and name not in top_costs:
                resolved[name] = self._components.resolve("cost_models", name, f"{path}.costs.{name}")
        return resolved

    def _default_objective(self) -> dict[str, Any]:
        if self._context.task is None:
            raise ConfigurationError(
                "objectives must be named, since the run has no task whose first metric could be the default",
                path="problem.objectives",
            )
        metric, direction = next(iter(self._context.task.metrics.items()))
        return {metric: direction}

    def build(self, settings: ProblemSettings, metrics: frozenset[str] | None, path: str) -> Problem:
        """Build a problem, and check that each of its limits can be met.

        Args:
            settings: the section, resolved and merged.
            metrics: the names of the metrics of the evaluator, or of a strategy that measures itself; empty: they are
                not known before it is constructed; None: nothing is measured, or metrics of the task are.
            path: of the section.

        Raises:
            ConfigurationError: an objective or constraint names neither a cost nor a metric.
            InfeasibleError: no architecture meets a limit; says by how much the nearest one misses it.
        """
        models: dict[str, TabulatedCost] = {}
        for name, spec in settings.costs.items():
            models[name] = self._model(name, spec, "final", path)
        constraints: list[Constraint] = []
        for name, limit in settings.constraints.items():
            text, of = _limit(name, limit, path)
            key = name
            if name in settings.costs and of == "search":
                key = name + SEARCHED
                models[key] = self._model(name, settings.costs[name], "search", path)
            elif name not in settings.costs:
                self._check_name(name, settings, metrics, f"{path}.constraints.{name}")
            model = models.get(key)
            constraint = parse_constraint(key, text, _bounds(model, self._announced) if model is not None else None)
            if model is not None and not self._context.checked:
                check_possible(constraint, model, path)
                if model.noisy:
                    _warn_of_measured(constraint, model, models.values())
            constraints.append(constraint)
        if not self._context.checked:
            check_possible_together(constraints, models, path)
        for name in settings.objectives:
            if name not in settings.costs:
                self._check_name(name, settings, metrics, f"{path}.objectives.{name}")
        return Problem(settings.objectives, constraints, models, self.exclusions)

    def _check_name(self, name: str, settings: ProblemSettings, metrics: frozenset[str] | None, path: str) -> None:
        task = self._context.task
        metric_names = metrics or frozenset(() if task is None else task.metrics)
        if name in metric_names or (metrics is not None and not metrics):
            return
        names = {*metric_names, *settings.costs, *self._components.registry.names("cost_models")}
        raise ConfigurationError(
            f"'{name}' is neither a metric of the evaluator nor a cost{did_you_mean(name, names)}", path=path
        )

    def _model(self, name: str, spec: Mapping[str, Any], of: str, path: str) -> TabulatedCost:
        key = f"{name}/{of}/{json.dumps(dict(spec), sort_keys=True, default=str)}"
        if key not in self.models:
            space = self._spaces[of]
            seed = stream_seed(self._context.seed, f"cost/{name}")
            model = self._components.construct("cost_models", spec, [space], seed, f"{path}.costs.{name}")
            if isinstance(model, MeasuredCost):
                self.measured[key] = model
                if key in self._measurements:
                    model.load_state_dict(self._measurements[key])
            self.models[key] = TabulatedCost(model, space)
            if not self._context.checked:
                check_repeatable(self.models[key], self.exclusions, name, f"{path}.costs.{name}")
        return self.models[key]


def check_possible(constraint: Constraint, model: TabulatedCost, path: str) -> None:
    """Check that some architecture meets a limit on a cost.

    Raises:
        InfeasibleError: no architecture meets it; says by how much the nearest one misses it.
    """
    extremes = model.exact_extremes()
    if extremes is None:
        _warn_of_ends(constraint, model)
        return
    name = constraint.metric
    where = f"{path}.constraints.{name}: " if path else ""
    if extremes.smallest_value > constraint.high:
        raise InfeasibleError(
            f"{where}no network can meet '{name} {constraint.text}': the smallest one needs "
            f"{extremes.smallest_value:,.6g} {model.unit}, {extremes.smallest_value - constraint.high:,.6g} more than "
            f"the limit; raise the limit to at least {extremes.smallest_value:,.6g}"
        )
    if extremes.largest_value < constraint.low:
        raise InfeasibleError(
            f"{where}no network can meet '{name} {constraint.text}': the largest one has "
            f"{extremes.largest_value:,.6g} {model.unit}, {constraint.low - extremes.largest_value:,.6g} less than the "
            f"limit; lower the limit to at most {extremes.largest_value:,.6g}"
        )


def check_possible_together(constraints: Sequence[Constraint], models: Mapping[str, TabulatedCost], path: str) -> None:
    """Check that some architecture has all costs in their intervals, as far as the costs have tables.

    `check_possible` compares each limit with the smallest and the largest cost; between them, an interval may have no
    architecture, and limits that can be met alone may exclude each other.

    Args:
        constraints: of the problem.
        models: cost name -> model.
        path: of the section.

    Raises:
        InfeasibleError: no architecture meets these limits; the message names the nearest costs.
    """
    intervals = []
    for constraint in constraints:
        model = models.get(constraint.metric)
        if model is not None and not model.noisy and model.table is not None:
            intervals.append(CostInterval(model.table, constraint.low, constraint.high))
    if len(intervals) < 2 and not any(math.isfinite(each.low) and math.isfinite(each.high) for each in intervals):
        return  # checked already
    try:
        CostSampler(intervals)
    except SpaceError:
        return  # too many distinct costs
    except InfeasibleError as error:
        where = f"{path}.constraints: " if path else ""
        raise InfeasibleError(f"{where}{error}; change a limit") from None


def _warn_of_ends(constraint: Constraint, model: TabulatedCost) -> None:
    """Warn if the networks of the first and of the last options both miss a limit on the same side.

    Where options are sizes in increasing order, they are the cheapest and the most expensive network. The run goes on,
    since the order of options may mean nothing.
    """
    costs = [model.estimate(architecture) for architecture in model.ends() if not model.noisy]
    costs = [cost for cost in costs if math.isfinite(cost)]
    if costs and (min(costs) > constraint.high or max(costs) < constraint.low):
        _log.warning(
            "the limit '%s %s' may be impossible: the networks of the first and of the last options have %.4g and %.4g "
            "%s",
            constraint.metric,
            constraint.text,
            costs[0],
            costs[-1],
            model.unit,
        )


def _warn_of_measured(constraint: Constraint, model: TabulatedCost, costs: Iterable[TabulatedCost]) -> None:
    """Measure the networks that are cheapest in the exact costs, and warn if all of them exceed an upper limit."""
    extremes = [cost.exact_extremes() for cost in costs if not cost.noisy]
    cheapest = dict.fromkeys(each.smallest for each in extremes if each is not None)
    if constraint.high == math.inf or not cheapest:
        return
    smallest = min(model.estimate(architecture) for architecture in cheapest)
    if smallest > constraint.high:
        _log.warning(
            "the limit '%s %s' may be impossible: the networks with the lowest other costs have %.4g %s",
            constraint.metric,
            constraint.text,
            smallest,
            model.unit,
        )


def _limit(name: str, limit: Any, path: str) -> tuple[str, str]:
    """Return the limit of a constraint as a string, and the space whose networks it limits: ``final`` or ``search``."""
    where = f"{path}.constraints.{name}"
    if isinstance(limit, str):
        return limit, "final"
    if not isinstance(limit, Mapping) or "limit" not in limit:
        raise ConfigurationError(
            f"must be a string such as '<= 330M', or {{limit: '<= 330M', of: search}}, not {limit!r}", path=where
        )
    for key in limit:
        if key not in ("limit", "of"):
            raise ConfigurationError(
                f"a constraint has no setting '{key}'{did_you_mean(str(key), ('limit', 'of'))}", path=f"{where}.{key}"
            )
    of = limit.get("of", "final")
    if of not in ("final", "search"):
        raise ConfigurationError(f"must be 'final' or 'search', not {of!r}", path=f"{where}.of")
    return limit["limit"], of


def _bounds(model: TabulatedCost, announced: set[str]) -> Callable[[], tuple[float, float]]:
    """Return a function that computes the smallest and the largest cost, which relative limits refer to.

    Args:
        model: of the cost.
        announced: the metrics whose search was announced; the function adds that of the model.
    """

    def bounds() -> tuple[float, float]:
        if model.noisy:
            raise ConfigurationError(
                f"a limit relative to the space needs the cost of thousands of networks, and {model.metric} is "
                f"measured; write the limit in {model.unit}",
                path=f"problem.constraints.{model.metric}",
            )
        extremes = model.exact_extremes()
        if extremes is None:
            if model.metric not in announced:
                announced.add(model.metric)
                _log.warning(
                    "a limit on %s is relative to the space, and the cost has no table: its smallest and largest value "
                    "are searched now, which takes minutes in a large space; a limit in %s needs no search",
                    model.metric,
                    model.unit,
                )
            extremes = model.extremes()
        return extremes.smallest_value, extremes.largest_value

    return bounds
