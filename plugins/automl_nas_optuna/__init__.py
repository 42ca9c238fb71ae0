"""Optuna's samplers as search strategies."""

from __future__ import annotations

from automl_nas.plugin.markers import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy that asks one of Optuna's samplers."""
    register(
        "optuna",
        "automl_nas_optuna.strategy:OptunaStrategy",
        summary="any sampler of Optuna: TPE, GP, NSGA-II, NSGA-III, CMA-ES, QMC, ...",
    )
