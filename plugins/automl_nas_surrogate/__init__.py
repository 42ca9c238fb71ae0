"""Search guided by a model of the results so far."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy."""
    register(
        "surrogate",
        "automl_nas_surrogate.search:SurrogateSearch",
        summary="local search guided by a Gaussian process over decisions and costs",
    )
