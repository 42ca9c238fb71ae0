"""The table of `compress`: the original beside the networks that the final stage trained, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from automl_nas.cli import table
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import MeasuredCost, report
from automl_nas.run import Result
from automl_nas.space import Architecture
from automl_nas_elastic.space import ElasticSpace

Intervals = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ComparedNetwork:
    """A row of the final table.

    Attributes:
        name: ``original``, or the role of a network of the final stage: ``found``, or that of a baseline.
        metrics: metric -> value on the test split.
        intervals: metric -> 95 % interval of the value, where the task computes one.
        costs: cost -> value; measured costs of all rows are measured in one session.
        cost_intervals: measured cost -> interval of the value.
    """

    name: str
    metrics: Mapping[str, float]
    intervals: Intervals
    costs: Mapping[str, float]
    cost_intervals: Intervals = field(default_factory=dict)


def compared(result: Result) -> tuple[ComparedNetwork, ...]:
    """Return the rows of the original and of the networks that the final stage trained and tested.

    Raises:
        ConfigurationError: the space of the run is not one of a model.
        SpaceError: a network cannot be measured.
    """
    assert result.final is not None
    rows, architectures = [_original(result)], [_space(result).largest]
    for each in result.final.networks:
        if each.test is not None:
            rows.append(ComparedNetwork(each.role, each.test, each.test_interval, each.costs))
            architectures.append(each.architecture)
    return tuple(_measured(result, rows, architectures))


def text(networks: Sequence[ComparedNetwork]) -> str:
    """Return the table of the rows."""
    metrics = list(dict.fromkeys(name for each in networks for name in each.metrics))
    costs = list(dict.fromkeys(name for each in networks for name in each.costs))
    rows = []
    for each in networks:
        cells = [_with_interval(each.metrics, each.intervals, name, ".4f") for name in metrics]
        cells += [_with_interval(each.costs, each.cost_intervals, name, ",.4g") for name in costs]
        rows.append([each.name, *cells])
    return "\n".join(table(["network", *metrics, *costs], rows))


def _space(result: Result) -> ElasticSpace:
    space = result.plan.space
    if not isinstance(space, ElasticSpace):
        raise ConfigurationError(f"the space of the run is a {type(space).__name__}, not one of a model", path="space")
    return space


def _original(result: Result) -> ComparedNetwork:
    """Return the row of the model itself, with the weights that it had before the run."""
    plan, space = result.plan, _space(result)
    task, runtime = plan.final_task or plan.task, plan.runtime
    assert task is not None  # the run has a final stage
    with runtime.seeded(plan.seed, "original"):
        scores = report(runtime.place(space.build(space.largest)), task, runtime, "test")
    models = plan.result_stage.problem.cost_models
    costs = {name: model.estimate(space.largest) for name, model in models.items()}
    return ComparedNetwork("original", scores.metrics, scores.intervals, costs)


def _measured(
    result: Result, rows: Sequence[ComparedNetwork], architectures: Sequence[Architecture]
) -> list[ComparedNetwork]:
    """Measure the networks of all rows in one session, since latencies of different sessions are not comparable."""
    space, measured = _space(result), list(rows)
    for name, model in result.plan.result_stage.problem.cost_models.items():
        inner = getattr(model, "model", model)
        if not isinstance(inner, MeasuredCost):
            continue
        networks = [space.build(architecture).eval() for architecture in architectures]
        for place, measurement in enumerate(inner.measure(networks, space.input_shape)):
            row = measured[place]
            measured[place] = replace(
                row,
                costs={**row.costs, name: measurement.value},
                cost_intervals={**row.cost_intervals, name: (measurement.low, measurement.high)},
            )
    return measured


def _with_interval(values: Mapping[str, float], intervals: Intervals, name: str, form: str) -> str:
    if (value := values.get(name)) is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if name not in intervals:
        return f"{value:{form}}"
    low, high = intervals[name]
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
