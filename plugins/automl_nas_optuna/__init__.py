"""Optuna, both ways: its samplers search our spaces, our strategies serve its studies.

Names are loaded when they are used, so importing this package does not import Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    import click

    from automl_nas_optuna.objectives import evaluate
    from automl_nas_optuna.samplers import Sampler
    from automl_nas_optuna.strategy import OptunaStrategy
    from automl_nas_optuna.strategy_sampler import StrategySampler
    from automl_nas_optuna.suggesting import architecture_of, parameters_of, suggest

__all__ = [
    "OptunaStrategy",
    "Sampler",
    "StrategySampler",
    "architecture_of",
    "evaluate",
    "parameters_of",
    "suggest",
]

_LAZY = {
    "OptunaStrategy": "automl_nas_optuna.strategy",
    "Sampler": "automl_nas_optuna.samplers",
    "StrategySampler": "automl_nas_optuna.strategy_sampler",
    "architecture_of": "automl_nas_optuna.suggesting",
    "evaluate": "automl_nas_optuna.objectives",
    "parameters_of": "automl_nas_optuna.suggesting",
    "suggest": "automl_nas_optuna.suggesting",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Hooks are found by it, so nothing is left out.
    return sorted({*globals(), *__all__})


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy that asks one of Optuna's samplers, and the one that proposes what it is given."""
    register(
        "optuna",
        "automl_nas_optuna.strategy:OptunaStrategy",
        summary="any sampler of Optuna: TPE, GP, NSGA-II, NSGA-III, CMA-ES, QMC, ...",
    )
    register(
        "given", "automl_nas_optuna.fixed_proposals:Given", summary="the architectures that the configuration names"
    )


@hookimpl
def register_observers(register: Register) -> None:
    """Register the observer that mirrors runs."""
    register(
        "optuna",
        "automl_nas_optuna.recording:MirrorObserver",
        summary="copies finished trials into an Optuna storage, for its dashboard and visualisations",
    )


@hookimpl
def register_executors(register: Register) -> None:
    """Register the executor whose workers are processes of any machine."""
    register(
        "optuna",
        "automl_nas_optuna.executor:OptunaExecutor",
        summary="workers of any machine (automl-nas worker) take evaluations from an Optuna storage",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add the commands that mirror a run afterwards, join one as a worker, and tune the settings of searches."""
    from automl_nas_optuna.commands import mirror, study, worker

    for command in (mirror, worker, study):
        cli.add_command(command)
