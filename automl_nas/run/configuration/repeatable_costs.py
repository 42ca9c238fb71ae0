"""Whether the cost models of a run return the same cost each time: in one process, and in every process of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.model import checked_cost
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.run.record.json_values import to_json_values
from automl_nas.space.exclusions import Exclusions
from automl_nas.streams import stream


def is_repeatable(model: TabulatedCost) -> bool:
    """Whether all estimates of an architecture must be equal: not if the cost is ``noisy`` or a `MeasuredCost`.

    A run stores what a `MeasuredCost` measured, so that it is not measured again in another process.
    """
    return not model.noisy and not isinstance(model.model, MeasuredCost)


def check_repeatable(model: TabulatedCost, exclusions: Exclusions, name: str, path: str) -> None:
    """Estimate the cost of two random architectures, then that of the first one again, and compare.

    Args:
        model: of the cost.
        exclusions: of the space.
        name: of the cost in the problem.
        path: of the cost model in the configuration.

    Raises:
        ConfigurationError: the two costs of the first architecture differ.
        SpaceError: the model returns something that is not a cost.
    """
    if not is_repeatable(model):
        return
    first, other = (exclusions.sample(stream(0, "repeated costs", number)) for number in range(2))
    # The cost without its table and its cache.
    before, _, after = (
        checked_cost(model.model.estimate(architecture), name, model.model, architecture)
        for architecture in (first, other, first)
    )
    if before != after:
        raise ConfigurationError(
            f"the cost model '{name}' ({type(model.model).__qualname__}) returns {before} and then {after} for the "
            f"architecture {first.key}, so its trials could not be compared, and a resumed run could not repeat them; "
            "let the cost depend on the architecture alone (no random numbers, counters or clocks, no state that a "
            "call changes), or declare that it is measured each time: class attribute noisy = True, or a MeasuredCost",
            path=path,
        )


def describe_costs(models: Mapping[str, TabulatedCost], exclusions: Exclusions) -> dict[str, Any]:
    """Return the costs of one architecture, by which another process can tell that its cost models are the same.

    Args:
        models: key -> cost model; the key begins with the name of the cost and a slash.
        exclusions: of the space.

    Returns:
        Key -> cost, of the repeatable cost models; None for infinity.
    """
    repeatable = {key: model for key, model in models.items() if is_repeatable(model)}
    if not repeatable:
        return {}
    architecture = exclusions.sample(stream(0, "repeated costs", 0))
    return {key: to_json_values(model.estimate(architecture)) for key, model in repeatable.items()}


def costs_difference(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Return the first cost that differs in two descriptions in words; empty if those that both have are the same."""
    for key, before in recorded.items():
        if key in present and present[key] != before:
            return f"the cost '{key.partition('/')[0]}' of an architecture was {before} and is {present[key]}"
    return ""
