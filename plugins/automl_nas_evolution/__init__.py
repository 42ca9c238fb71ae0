"""Evolutionary search, baselines to compare it with, and the core's wrappers of ask-and-tell strategies."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register random search, two evolutionary searches, local search and the wrappers."""
    register(
        "random",
        "automl_nas_evolution.random_search:RandomSearch",
        summary="uniform sampling of feasible architectures",
    )
    register(
        "evolution",
        "automl_nas_evolution.evolutionary:EvolutionarySearch",
        summary="generations by mutation and crossover of the best candidates (SPOS)",
    )
    register(
        "regularized_evolution",
        "automl_nas_evolution.regularized_evolution:RegularizedEvolution",
        summary="tournaments in a population whose oldest member is removed (Real et al. 2019)",
    )
    register(
        "aging",
        "automl_nas_evolution.regularized_evolution:RegularizedEvolution",
        summary="alias of regularized_evolution",
    )
    register(
        "local_search",
        "automl_nas_evolution.local_search:LocalSearch",
        summary="move to better neighbours, with restarts",
    )
    register(
        "deduplicate",
        "automl_nas.strategy.wrappers:Deduplicate",
        summary="return the recorded result of repeated proposals",
    )
    register("filter", "automl_nas.strategy.wrappers:Filter", summary="do not evaluate infeasible proposals")
    register("retry", "automl_nas.strategy.wrappers:Retry", summary="evaluate failed candidates again")
    register(
        "race",
        "automl_nas.strategy.racing:Race",
        summary="score the candidates of a strategy on a part of the images, finish those that a paired test leaves",
    )
