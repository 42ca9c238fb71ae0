"""DSO-NAS: direct sparse optimisation of a fully connected graph.

Names are imported when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    from automl_nas.plugin import RunInfo, StepInfo
    from automl_nas_dso.optimiser import APGNAG
    from automl_nas_dso.space import Block, Cost, DsoSpace, Edge, EdgeSpace, transfer
    from automl_nas_dso.sparse_structure import SparseSelection

__all__ = ["APGNAG", "Block", "Cost", "DsoSpace", "Edge", "EdgeSpace", "SparseSelection", "transfer"]

_LAZY = {
    "APGNAG": "automl_nas_dso.optimiser",
    "Block": "automl_nas_dso.space",
    "Cost": "automl_nas_dso.space",
    "DsoSpace": "automl_nas_dso.space",
    "Edge": "automl_nas_dso.space",
    "EdgeSpace": "automl_nas_dso.space",
    "SparseSelection": "automl_nas_dso.sparse_structure",
    "transfer": "automl_nas_dso.space",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager finds the hooks with dir(), so all globals are included.
    return sorted({*globals(), *__all__})


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the search space."""
    register(
        "dso",
        "automl_nas_dso.space:DsoSpace",
        summary="blocks of operations that are all connected; every edge is searched (DSO-NAS)",
    )


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy."""
    register(
        "dso",
        "automl_nas_dso.strategy:DSO",
        summary="train all edges once, with a penalty that makes the scales of useless edges exactly 0 (DSO-NAS)",
    )


@hookimpl
def step_finished(run: RunInfo, step: StepInfo) -> None:
    """Write the result of a search to the run directory after the step that proposed it."""
    if step.trials and any(
        stage["name"] == step.stage and stage["strategy"]["name"] == "dso" for stage in run.config["stages"]
    ):
        from automl_nas_dso.strategy.result_files import write_results

        write_results(run.directory, step.stage, run.config["space"])
