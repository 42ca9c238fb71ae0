"""The plan of a run under torchrun: all ranks have that of rank 0, with what rank 0 measured for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.ranks import Ranks
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.json_values import to_json_values
from automl_nas.streams import stream

_PREDICTIONS = 4
"""The number of architectures whose predicted costs the ranks compare."""


def agreed_plan(ranks: Ranks, plan: Plan | None, registry: Registry, objects: Mapping[str, object]) -> Plan:
    """Return the plan of rank 0; the other ranks make it from its configuration, with its measurements.

    Args:
        ranks: of the run.
        plan: of rank 0; None in the others.
        registry: of components.
        objects: name -> Python object for the names ``python:module:Class`` in the configuration.
    """

    def shared() -> list[Any]:
        assert plan is not None
        predictions(plan)  # costs that are fitted to measurements on first use have them afterwards
        return [plan.config, plan.measurements()]

    if ranks.size > 1:
        config, measurements = ranks.agree(ranks.lead(shared) or [None, None])
        plan = plan or make_plan(config, registry, objects, checked=True, measured=measurements)
    assert plan is not None
    return plan


def predictions(plan: Plan) -> dict[str, list[Any]]:
    """Return the costs of some architectures by models that are fitted to measurements of this run."""
    sampled = [plan.exclusions.sample(stream(0, "predictions", number)) for number in range(_PREDICTIONS)]
    models = {key: model for key, model in plan.costs.items() if isinstance(model.model, MeasuredCost)}
    return {
        key: [to_json_values(model.estimate(each)) for each in sampled]
        for key, model in models.items()
        if not model.noisy
    }
