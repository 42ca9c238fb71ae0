"""DSO-NAS: direct sparse optimisation of a fully connected graph.

Names are loaded when they are used, so importing this package imports neither torch nor anything heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas_dso.optimiser import APGNAG

__all__ = ["APGNAG"]

_LAZY = {"APGNAG": "automl_nas_dso.optimiser"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
