"""DSO-NAS: direct sparse optimisation of a fully connected graph.

Names are loaded when they are used, so importing this package imports neither torch nor anything heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    from automl_nas.plugin import RunInfo, StepInfo
    from automl_nas_dso.edges import Block, Cost, Edge, EdgeSpace
    from automl_nas_dso.optimiser import APGNAG
    from automl_nas_dso.space import DsoSpace, transfer
    from automl_nas_dso.sparse_structure import SparseSelection

__all__ = ["APGNAG", "Block", "Cost", "DsoSpace", "Edge", "EdgeSpace", "SparseSelection", "transfer"]

_LAZY = {
    "APGNAG": "automl_nas_dso.optimiser",
    "Block": "automl_nas_dso.edges",
    "Cost": "automl_nas_dso.edges",
    "DsoSpace": "automl_nas_dso.space",
    "Edge": "automl_nas_dso.edges",
    "EdgeSpace": "automl_nas_dso.edges",
    "SparseSelection": "automl_nas_dso.sparse_structure",
    "transfer": "automl_nas_dso.space",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Hooks are found by it, so nothing is left out.
    return sorted({*globals(), *__all__})


@hookimpl
def register_spaces(register: Register) -> None:
    """Offer the space."""
    register(
        "dso",
        "automl_nas_dso.space:DsoSpace",
        summary="blocks of operations that all read each other; every edge is searched (DSO-NAS)",
    )


@hookimpl
def register_strategies(register: Register) -> None:
    """Offer the search."""
    register(
        "dso",
        "automl_nas_dso.strategy:DSO",
        summary="train all edges once, with a penalty that makes the scales of useless ones exactly 0 (DSO-NAS)",
    )


@hookimpl
def step_finished(run: RunInfo, step: StepInfo) -> None:
    """Write what a search has found to the run directory, once it has proposed it."""
    if step.trials and any(
        stage["name"] == step.stage and stage["strategy"]["name"] == "dso" for stage in run.config["stages"]
    ):
        from automl_nas_dso.strategy_files import write_found

        write_found(run.directory, step.stage, run.config["space"])
