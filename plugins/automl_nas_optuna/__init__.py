"""Optuna and this framework, in both directions.

Optuna's samplers search the spaces of this framework (``strategy``); studies of your own use architectures, evaluators
and strategies of this framework (``objective``). Optuna storages hold copies of runs (``mirror``), distribute
evaluations to workers (``workers``), and hold studies that tune the settings of searches (``tuning``).

Public names are loaded when they are first used, so importing this package does not import Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    import click

    from automl_nas_optuna.objective.adapted_trials import adapted_trials
    from automl_nas_optuna.objective.evaluating import evaluate
    from automl_nas_optuna.objective.strategy_sampler import StrategySampler
    from automl_nas_optuna.objective.suggesting import architecture_of, parameters_of, suggest
    from automl_nas_optuna.storages import open_storage
    from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
    from automl_nas_optuna.strategy.samplers import Sampler
    from automl_nas_optuna.tuning.study_file import StudyFile
    from automl_nas_optuna.tuning.tuning import Tuning

__all__ = [
    "OptunaStrategy",
    "Sampler",
    "StrategySampler",
    "StudyFile",
    "Tuning",
    "adapted_trials",
    "architecture_of",
    "evaluate",
    "open_storage",
    "parameters_of",
    "suggest",
]

_LAZY = {
    "OptunaStrategy": "automl_nas_optuna.strategy.optuna_strategy",
    "Sampler": "automl_nas_optuna.strategy.samplers",
    "StrategySampler": "automl_nas_optuna.objective.strategy_sampler",
    "StudyFile": "automl_nas_optuna.tuning.study_file",
    "Tuning": "automl_nas_optuna.tuning.tuning",
    "adapted_trials": "automl_nas_optuna.objective.adapted_trials",
    "architecture_of": "automl_nas_optuna.objective.suggesting",
    "evaluate": "automl_nas_optuna.objective.evaluating",
    "open_storage": "automl_nas_optuna.storages",
    "parameters_of": "automl_nas_optuna.objective.suggesting",
    "suggest": "automl_nas_optuna.objective.suggesting",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager searches `dir` for hooks, so it must contain all globals and not only the public names.
    return sorted({*globals(), *__all__})


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy that asks one of Optuna's samplers, and the one that proposes listed architectures."""
    register(
        "optuna",
        "automl_nas_optuna.strategy.optuna_strategy:OptunaStrategy",
        summary="any sampler of Optuna: TPE, GP, NSGA-II, NSGA-III, CMA-ES, QMC, ...",
    )
    register(
        "given",
        "automl_nas_optuna.tuning.fixed_proposals:FixedProposals",
        summary="the architectures listed in the configuration",
    )


@hookimpl
def register_pruners(register: Register) -> None:
    """Register Optuna's pruners by their short names, and ``optuna`` for any other class."""
    module = "automl_nas_optuna.pruning.pruners"
    for name, class_name, summary in (
        ("median", "Median", "stops trials that are worse than the median of the others at the same step"),
        ("percentile", "Percentile", "stops trials that are not among the best per cent at the same step"),
        ("successive_halving", "SuccessiveHalving", "stops trials that are not among the best at a rung"),
        ("hyperband", "Hyperband", "successive halving with several brackets"),
        ("threshold", "Threshold", "stops trials with a value outside of limits"),
        ("patient", "Patient", "stops trials that do not get better, or has another pruner decide about them"),
        ("wilcoxon", "Wilcoxon", "stops trials that a signed-rank test finds worse than the best one"),
        ("optuna", "AnyPruner", "any other pruner of Optuna, by its class"),
    ):
        register(name, f"{module}:{class_name}", summary=summary)


@hookimpl
def register_observers(register: Register) -> None:
    """Register the observer that mirrors runs."""
    register(
        "optuna",
        "automl_nas_optuna.mirror.observer:MirrorObserver",
        summary="copies finished trials into an Optuna storage, for its dashboard and visualisations",
    )


@hookimpl
def register_executors(register: Register) -> None:
    """Register the executor whose workers take evaluations from an Optuna storage."""
    register(
        "optuna",
        "automl_nas_optuna.workers.executor:OptunaExecutor",
        summary="workers on any machine (automl-nas worker) take evaluations from an Optuna storage",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add the commands that mirror a finished run, start and show workers, and tune the settings of searches."""
    from automl_nas_optuna.commands import mirror, study, worker, workers

    for command in (mirror, worker, workers, study):
        cli.add_command(command)
