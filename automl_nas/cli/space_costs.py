"""The report of ``automl-nas cost``: the costs of an architecture and the extremes of a space, as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.cli.text import architecture as architecture_text, table
from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation.costs.tabulated import Extremes, TabulatedCost
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.sections import DEFAULT_COSTS
from automl_nas.run.number_text import exact
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import decode, encode
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed

REPORTED_COSTS = (*DEFAULT_COSTS, "memory_access")
"""Costs that are reported if they are registered, also if the problem does not name them."""

LATENCY = "latency_ms"
"""The cost that ``--latency`` adds."""


@dataclass(frozen=True)
class CostEntry:
    """One cost in a report.

    Attributes:
        name: the name in the problem.
        model: the cost model.
        summary: the summary of the cost model that its plugin registers.
        value: the cost of the report's architecture; None if the report has no architecture.
        layers: module path -> cost; empty if costs of modules are not reported.
        remarks: remarks of the cost model, in sentences.
    """

    name: str
    model: TabulatedCost
    summary: str
    value: float | None
    layers: Mapping[str, float]
    remarks: Sequence[str] = ()

    @property
    def extremes(self) -> Extremes | None:
        """The cheapest and the most expensive network; None for a measured cost: a search would take hours."""
        return None if self.model.noisy else self.model.extremes()


@dataclass(frozen=True)
class SpaceCosts:
    """The costs of an architecture and of the extremes of a space.

    Attributes:
        plan: the plan of the configuration.
        title: the heading of the architecture; empty if only extremes are reported.
        architecture: the architecture whose costs are reported; None: only the extremes are.
        costs: all costs.
        by_layer: whether to report the cost of each module.
        met: constraint -> whether the architecture meets it.
    """

    plan: Plan
    title: str
    architecture: Architecture | None
    costs: Sequence[CostEntry]
    by_layer: bool
    met: Mapping[str, bool]

    def as_text(self) -> list[str]:
        """Return the report as lines of text."""
        space = self.plan.final_space
        name = self.plan.config["space"]["name"]
        lines = [f"space: {name}, {len(space.decisions)} decisions, {exact(space.size)} architectures"]
        header, columns = ["cost", "unit"], ["smallest", "largest"]
        if self.architecture is not None:
            lines += ["", f"{self.title}:", architecture_text(self.architecture.to_dict(), "  ")]
            lines += [f"  {'meets' if met else 'MISSES'} {constraint}" for constraint, met in self.met.items()]
            columns.insert(0, "this one")
        rows = []
        for cost in self.costs:
            ends = cost.extremes
            values = ["", ""] if ends is None else [exact(ends.smallest_value), exact(ends.largest_value)]
            own = [] if self.architecture is None else ["" if cost.value is None else exact(cost.value)]
            method = "not measured" if ends is None else "exact" if ends.exact else "by local search"
            rows.append([cost.name, cost.model.unit, *own, *values, method])
        lines += ["", *table([*header, *columns, "extremes"], rows, left=2), ""]
        for cost in self.costs:
            additive = "additive over decisions" if cost.model.additive else f"not additive ({cost.model.reason})"
            lines.append(f"{cost.name}: {cost.summary.rstrip('.') or cost.model.metric}; {additive}")
            lines += [f"  {remark}" for remark in cost.remarks]
        if self.by_layer:
            lines += ["", *self._layers()]
        return lines

    def _layers(self) -> list[str]:
        assert self.architecture is not None
        with self.plan.runtime.seeded(self.plan.seed, "cost"):
            network = self.plan.final_space.build(self.architecture)
        order = {name: position for position, (name, _) in enumerate(network.named_modules())}
        modules = dict.fromkeys(path for cost in self.costs for path in cost.layers)
        paths = sorted(modules, key=lambda path: order.get(path, len(order)))
        rows = [
            [path or "(network)", *(exact(c.layers[path]) if path in c.layers else "" for c in self.costs)]
            for path in paths
        ]
        rows.append(["total", *(exact(cost.value or 0) for cost in self.costs)])
        return table(["module", *(cost.name for cost in self.costs)], rows)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "space": self.plan.config["space"],
            "size": self.plan.final_space.size,
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "constraints": dict(self.met),
            "costs": {cost.name: _as_json(cost) for cost in self.costs},
        }


def _as_json(cost: CostEntry) -> dict[str, Any]:
    ends = cost.extremes
    extremes: dict[str, Any] = {"smallest": None, "largest": None, "exact": None}
    if ends is not None:
        extremes = {
            "smallest": {"value": ends.smallest_value, "architecture": ends.smallest.to_dict()},
            "largest": {"value": ends.largest_value, "architecture": ends.largest.to_dict()},
            "exact": ends.exact,
        }
    return {
        "unit": cost.model.unit,
        "summary": cost.summary,
        "additive": cost.model.additive,
        "reason": cost.model.reason or None,
        "value": cost.value,
        **extremes,
        "remarks": list(cost.remarks),
        **({"by_layer": dict(cost.layers)} if cost.layers else {}),
    }


def space_costs(plan: Plan, requested: str | None, *, by_layer: bool, latency: bool = False) -> SpaceCosts:
    """Return the costs of an architecture and of the extremes of the space that is delivered.

    Args:
        plan: the plan of a configuration.
        requested: the argument of ``--architecture``; None: only the extremes are reported.
        by_layer: whether to report the cost of each module.
        latency: whether to measure the latency of the architecture, too.

    Raises:
        ConfigurationError: the space has no costs, or no plugin measures latency.
        SpaceError: the architecture is not valid in the space.
    """
    models = _models(plan, (*REPORTED_COSTS, LATENCY) if latency else REPORTED_COSTS)
    if latency and LATENCY not in models:
        raise ConfigurationError(
            f"the latency cannot be measured: the cost '{LATENCY}' is not registered, or the space has no networks"
        )
    if not models:
        raise ConfigurationError(
            "no cost model is registered for this space; add one under problem.costs", path="problem.costs"
        )
    # The extremes of a measured cost are not searched.
    first_name, first = next((item for item in models.items() if not item[1].noisy), next(iter(models.items())))
    architecture, title = None, ""
    if requested in ("smallest", "largest"):
        ends = first.extremes()
        architecture = ends.smallest if requested == "smallest" else ends.largest
        title = f"{requested} network in {first_name}"
    elif requested is not None:
        architecture, title = read_architecture(requested, plan.final_space), "architecture"
    summaries = {
        component.name: component.summary for component in plan.components.registry if component.kind == "cost_models"
    }
    # By component instead of metric: a predictor of a latency has the metric of the latency.
    components = {name: spec["name"] for stage in plan.stages for name, spec in stage.problem_settings.costs.items()}
    costs = []
    for name, model in models.items():
        value = None if architecture is None else model.estimate(architecture)
        layers = model.breakdown(architecture) if by_layer and architecture is not None else {}
        remarks = [model.note()] if model.note() else []
        remarks += [] if architecture is None else model.remarks(architecture)
        costs.append(
            CostEntry(name, model, summaries.get(components.get(name, model.metric), ""), value, layers, remarks)
        )
    met: dict[str, bool] = {}
    if architecture is not None:
        for stage in plan.stages:
            met.update({text: value <= 0 for text, value in stage.problem.violations(architecture).items()})
    return SpaceCosts(plan, title, architecture, costs, by_layer, met)


def read_architecture(text: str, space: SearchSpace) -> Architecture:
    """Read an architecture: a JSON object, ``@file`` with one, or the numbers of its options.

    Raises:
        SpaceError: the text cannot be read, or the architecture is not valid in the space.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except OSError as error:
            raise SpaceError(f"cannot read the architecture file {text[1:]}: {error.strerror}") from None
        except (ValueError, RuntimeError) as error:  # another encoding, NUL in a path, or an unknown home folder
            raise SpaceError(f"cannot read the architecture file {text[1:]}: {error}") from None
    text = text.strip()
    try:
        value = json.loads(text if text.startswith(("{", "[")) else f"[{text.replace(',', ' ').replace(' ', ',')}]")
    except (ValueError, RecursionError) as error:
        raise SpaceError(
            f"cannot read the architecture {text[:60]!r}: {error}; give a JSON object, @FILE or numbers such as 2,1,0,3"
        ) from None
    if isinstance(value, dict):
        # Files of a run hold the architecture under this key, with other values.
        nested = value.get("architecture")
        return space.validate(nested if isinstance(nested, dict) and "architecture" not in space.decisions else value)
    if not isinstance(value, list) or not all(type(code) is int for code in value):
        raise SpaceError("an architecture as a list must hold whole numbers: the positions of options, counted from 0")
    try:
        decoded = decode(value, space.decisions)
    except IndexError:
        decoded = None
    if decoded is None or list(encode(decoded, space.decisions)) != value:
        counts = ", ".join(str(len(decision.options)) for decision in space.decisions.values())
        raise SpaceError(
            f"a number in {value} is not the position of an option; positions are counted from 0, and the decisions "
            f"have this many options: {counts}"
        )
    return space.validate(decoded)


def _models(plan: Plan, additional: Sequence[str]) -> dict[str, TabulatedCost]:
    """Return the cost models of all problems, and the additional ones that are registered and fit the space."""
    models: dict[str, TabulatedCost] = {}
    for stage in plan.stages:
        for name, model in stage.problem.cost_models.items():
            models[name] = model if isinstance(model, TabulatedCost) else TabulatedCost(model, plan.final_space)
    for name in additional:
        if (
            name not in models
            and name in plan.components.registry.names("cost_models")
            and plan.final_space.input_shape
        ):
            model = plan.components.construct(
                "cost_models", {"name": name}, [plan.final_space], stream_seed(plan.seed, f"cost/{name}"), ""
            )
            models[name] = TabulatedCost(model, plan.final_space)
    return models
