"""Estimators of scikit-learn that search their networks, and a first configuration for one's data.

`NASClassifier` and `NASRegressor` are imported from here; they load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    import click

    from automl_nas_estimators.classifier import NASClassifier
    from automl_nas_estimators.regressor import NASRegressor

__all__ = ["NASClassifier", "NASRegressor"]

_LAZY = {
    "NASClassifier": "automl_nas_estimators.classifier",
    "NASRegressor": "automl_nas_estimators.regressor",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager searches `dir` for hooks, so it must contain all globals and not only the public names.
    return sorted({*globals(), *__all__})


@hookimpl
def register_tasks(register: Register) -> None:
    """Register ``arrays``."""
    register(
        "arrays",
        "automl_nas_estimators.arrays:arrays",
        summary="inputs and targets of any kind in an npz file: tables, images, signals, tokens",
    )


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add ``automl-nas init``."""
    from automl_nas_estimators.init_command import init

    cli.add_command(init)
