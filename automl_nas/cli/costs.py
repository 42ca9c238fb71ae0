"""The account that ``automl-nas cost`` gives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.cli.text import architecture as architecture_text, exact, table
from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation.costs.tabulated import Extremes, TabulatedCost
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.sections import DEFAULT_COSTS
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import decode, encode
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed

SHOWN = (*DEFAULT_COSTS, "memory_access")
"""Costs shown even if the problem does not name them, where they are registered."""

MEASURED = "latency_ms"
"""The cost that is added by ``--latency``."""


@dataclass(frozen=True)
class Cost:
    """One cost of a space.

    Attributes:
        name: in the problem.
        model: what counts it.
        summary: what it counts, in the words of its plugin.
        value: of the architecture asked about; None if there is none.
        layers: the same by module; empty if not asked for.
        remarks: what belongs beside the value.
    """

    name: str
    model: TabulatedCost
    summary: str
    value: float | None
    layers: Mapping[str, float]
    remarks: Sequence[str] = ()

    @property
    def extremes(self) -> Extremes | None:
        """The cheapest and the dearest network; None where each value is a measurement, and a search takes hours."""
        return None if self.model.noisy else self.model.extremes()


@dataclass(frozen=True)
class Account:
    """What networks of a space cost.

    Attributes:
        plan: the resolved run.
        title: how the architecture was asked for; empty if none was.
        architecture: what was asked about.
        costs: all costs.
        by_layer: whether the costs of modules are wanted.
        met: constraint -> whether the architecture meets it.
    """

    plan: Plan
    title: str
    architecture: Architecture | None
    costs: Sequence[Cost]
    by_layer: bool
    met: Mapping[str, bool]

    def as_text(self) -> list[str]:
        """Return lines for people."""
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
            given = [] if self.architecture is None else ["" if cost.value is None else exact(cost.value)]
            how = "not measured" if ends is None else "exact" if ends.exact else "found by local search"
            rows.append([cost.name, cost.model.unit, *given, *values, how])
        lines += ["", *table([*header, *columns, "extremes"], rows, left=2), ""]
        for cost in self.costs:
            how = "additive over decisions" if cost.model.additive else f"not additive ({cost.model.reason})"
            lines.append(f"{cost.name}: {cost.summary.rstrip('.') or cost.model.metric}; {how}")
            lines += [f"  {remark}" for remark in cost.remarks]
        if self.by_layer:
            lines += ["", *self._layers()]
        return lines

    def _layers(self) -> list[str]:
        assert self.architecture is not None
        with self.plan.runtime.seeded(self.plan.seed, "cost"):
            network = self.plan.final_space.build(self.architecture)
        order = {name: position for position, (name, _) in enumerate(network.named_modules())}
        found = dict.fromkeys(path for cost in self.costs for path in cost.layers)
        paths = sorted(found, key=lambda path: order.get(path, len(order)))
        rows = [
            [path or "(network)", *(exact(c.layers[path]) if path in c.layers else "" for c in self.costs)]
            for path in paths
        ]
        rows.append(["total", *(exact(cost.value or 0) for cost in self.costs)])
        return table(["module", *(cost.name for cost in self.costs)], rows)

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain data."""
        return {
            "space": self.plan.config["space"],
            "size": self.plan.final_space.size,
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "constraints": dict(self.met),
            "costs": {cost.name: _as_json(cost) for cost in self.costs},
        }


def _as_json(cost: Cost) -> dict[str, Any]:
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


def account(plan: Plan, wanted: str | None, *, by_layer: bool, latency: bool = False) -> Account:
    """Count.

    Args:
        plan: a resolved run.
        wanted: the architecture as given on the command line.
        by_layer: whether the costs of modules are wanted.
        latency: whether to measure the latency of the architecture, too.

    Raises:
        ConfigurationError: the space has no costs, or no plugin measures latency.
        SpaceError: the architecture is not of the space.
    """
    models = _models(plan, (*SHOWN, MEASURED) if latency else SHOWN)
    if latency and MEASURED not in models:
        raise ConfigurationError(f"no plugin that works has the cost '{MEASURED}', or the space has no networks")
    if not models:
        raise ConfigurationError(
            "no cost model is registered for this space; add one under problem.costs", path="problem.costs"
        )
    # The extremes of what is measured are not searched for.
    first_name, first = next((item for item in models.items() if not item[1].noisy), next(iter(models.items())))
    architecture, title = None, ""
    if wanted in ("smallest", "largest"):
        ends = first.extremes()
        architecture = ends.smallest if wanted == "smallest" else ends.largest
        title = f"{wanted} network in {first_name}"
    elif wanted is not None:
        architecture, title = read_architecture(wanted, plan.final_space), "architecture"
    summaries = {
        component.name: component.summary for component in plan.components.registry if component.kind == "cost_models"
    }
    # By component: a predictor of a latency has the metric of what it predicts.
    components = {name: spec["name"] for stage in plan.stages for name, spec in stage.problem_settings.costs.items()}
    costs = []
    for name, model in models.items():
        value = None if architecture is None else model.estimate(architecture)
        layers = model.breakdown(architecture) if by_layer and architecture is not None else {}
        remarks = [model.note()] if model.note() else []
        remarks += [] if architecture is None else model.remarks(architecture)
        costs.append(Cost(name, model, summaries.get(components.get(name, model.metric), ""), value, layers, remarks))
    met: dict[str, bool] = {}
    if architecture is not None:
        for stage in plan.stages:
            met.update({text: value <= 0 for text, value in stage.problem.violations(architecture).items()})
    return Account(plan, title, architecture, costs, by_layer, met)


def read_architecture(text: str, space: SearchSpace) -> Architecture:
    """Read an architecture: a JSON object, ``@file`` with one, or the numbers of its options.

    Raises:
        SpaceError: it cannot be read, or is not of the space.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpaceError(f"cannot read the architecture: {error}") from None
    text = text.strip()
    try:
        value = json.loads(text if text.startswith(("{", "[")) else f"[{text.replace(',', ' ').replace(' ', ',')}]")
    except json.JSONDecodeError as error:
        raise SpaceError(
            f"cannot read the architecture {text[:60]!r}: {error}; give a JSON object, @FILE or numbers such as 2,1,0,3"
        ) from None
    if isinstance(value, dict):
        # What a run exports or records holds the architecture among other things.
        inner = value.get("architecture")
        return space.validate(inner if isinstance(inner, dict) and "architecture" not in space.decisions else value)
    if not isinstance(value, list) or not all(type(code) is int for code in value):
        raise SpaceError("a list of codes holds whole numbers: the positions of options, counted from 0")
    try:
        found = decode(value, space.decisions)
    except IndexError:
        found = None
    if found is None or list(encode(found, space.decisions)) != value:
        counts = ", ".join(str(len(decision.options)) for decision in space.decisions.values())
        raise SpaceError(
            f"{value} holds a number that is no option; the decisions have so many options: {counts} (counted from 0)"
        )
    return space.validate(found)


def _models(plan: Plan, shown: Sequence[str]) -> dict[str, TabulatedCost]:
    """Return the costs of all problems, and those of ``shown`` that are registered and can be counted."""
    models: dict[str, TabulatedCost] = {}
    for stage in plan.stages:
        for name, model in stage.problem.cost_models.items():
            models[name] = model if isinstance(model, TabulatedCost) else TabulatedCost(model, plan.final_space)
    for name in shown:
        if (
            name not in models
            and name in plan.components.registry.names("cost_models")
            and plan.final_space.input_shape
        ):
            made = plan.components.construct(
                "cost_models", {"name": name}, [plan.final_space], stream_seed(plan.seed, f"cost/{name}"), ""
            )
            models[name] = TabulatedCost(made, plan.final_space)
    return models
