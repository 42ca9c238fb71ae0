"""The plugin `costs`: multiply-adds, parameters and memory access of the networks of any search space."""

from __future__ import annotations

from typing import Any

from automl_nas.plugin import hookimpl


@hookimpl
def register_cost_models(register: Any) -> None:
    """Register the cost models that need nothing but the space."""
    register(
        "flops",
        "automl_nas_costs.models:Flops",
        summary="Multiply-adds of convolutions, linear layers and matrix products, batch 1.",
    )
    register("params", "automl_nas_costs.models:Params", summary="Parameters, shared ones counted once.")
    register(
        "memory_access",
        "automl_nas_costs.models:MemoryAccess",
        summary="Elements read and written by convolutions, linear layers and pools, batch 1.",
    )
