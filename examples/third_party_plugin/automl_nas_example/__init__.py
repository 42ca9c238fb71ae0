"""An example of a plugin: one strategy and one cost model.

Every command imports this module, so it names its components in strings and imports nothing but the marker.
"""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register simulated annealing."""
    register("annealing", "automl_nas_example.annealing:Annealing", summary="simulated annealing among neighbours")


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register activations."""
    register(
        "activations",
        "automl_nas_example.activations:Activations",
        summary="outputs of all convolutions, in elements for one input",
    )
