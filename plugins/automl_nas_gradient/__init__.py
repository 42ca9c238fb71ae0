"""Differentiable search: DARTS, GDAS and relatives, with architecture parameters beside the weights of a supernet.

Names are imported when they are first used, so importing this package does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    from automl_nas.plugin import ResultInfo, RunInfo
    from automl_nas_gradient.deriving.items import GroupedSpace
    from automl_nas_gradient.space import DartsSpace

__all__ = ["DartsSpace", "GroupedSpace"]

_LAZY = {"DartsSpace": "automl_nas_gradient.space", "GroupedSpace": "automl_nas_gradient.deriving.items"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager finds the hooks with dir(), so all globals are included.
    return sorted({*globals(), *__all__})


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the space."""
    register(
        "darts_cells",
        "automl_nas_gradient.space:DartsSpace",
        summary="a normal cell and a reduction of four nodes with two inputs each, eight operations (DARTS)",
    )


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategies."""
    register(
        "darts",
        "automl_nas_gradient.strategy.darts:Darts",
        summary="train weights and softmax probabilities of all options by gradient, in turn or together (DARTS)",
    )
    register(
        "gdas",
        "automl_nas_gradient.strategy.gdas:Gdas",
        summary="as darts, but each step computes one option of each decision, drawn with Gumbel noise (GDAS)",
    )
    register(
        "proxyless",
        "automl_nas_gradient.strategy.proxyless:Proxyless",
        summary="binary gates: a step of the weights computes one path, a step of alpha two (ProxylessNAS)",
    )
    register(
        "fbnet",
        "automl_nas_gradient.strategy.fbnet:Fbnet",
        summary="relaxed draws with Gumbel noise, a falling temperature, and the expected cost in the loss (FBNet)",
    )
    register(
        "drnas",
        "automl_nas_gradient.strategy.drnas:Drnas",
        summary="weights of options drawn from Dirichlet distributions that are trained (DrNAS)",
    )


@hookimpl
def search_finished(run: RunInfo, result: ResultInfo) -> None:
    """Draw the cells of the best network of the space ``darts_cells`` into the run directory."""
    if result.best is None or run.config.get("space", {}).get("name") != "darts_cells":
        return
    from automl_nas_gradient.space import DartsSpace
    from automl_nas_gradient.space.picture import cell_pictures

    folder = run.directory / "cells"
    folder.mkdir(exist_ok=True)
    for name, picture in cell_pictures(DartsSpace().genotype(result.best.architecture)).items():
        # Written to another name first, so that a crash leaves no incomplete file.
        part = folder / f"{name}.svg.part"
        part.write_text(picture, encoding="utf-8")
        part.replace(folder / f"{name}.svg")
