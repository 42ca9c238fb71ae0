"""Evolutionary search, its baselines, and core's wrappers round any ask-and-tell strategy."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_strategies(register: Register) -> None:
    """Register random search, two evolutions, local search and the wrappers."""
    register("random", "automl_nas_evolution.random_search:RandomSearch", summary="uniform over what is feasible")
    register(
        "evolution",
        "automl_nas_evolution.evolutionary:EvolutionarySearch",
        summary="generations of mutation and crossover of the best (SPOS)",
    )
    register(
        "aging",
        "automl_nas_evolution.regularized_evolution:RegularizedEvolution",
        summary="tournaments in a population whose oldest dies",
    )
    register("local_search", "automl_nas_evolution.local:LocalSearch", summary="climb among neighbours, with restarts")
    register("deduplicate", "automl_nas.strategy.wrappers:Deduplicate", summary="answer repeated proposals from memory")
    register("filter", "automl_nas.strategy.wrappers:Filter", summary="keep infeasible proposals from being evaluated")
    register("retry", "automl_nas.strategy.wrappers:Retry", summary="evaluate failed candidates again")
