"""An example of a plugin: one strategy and one cost model.

Every command imports this module. It therefore registers its components as strings and imports nothing heavy.
"""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register simulated annealing."""
    register("annealing", "automl_nas_example.annealing:Annealing", summary="simulated annealing among neighbours")


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register the number of activations."""
    register(
        "activations",
        "automl_nas_example.activations:Activations",
        summary="outputs of all convolutions, in elements for one input",
    )
