"""The plugin `elastic`: search spaces from existing models, with their weights.

`ElasticSpace` is imported from here; it loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin import Register, hookimpl

if TYPE_CHECKING:
    from automl_nas_elastic.space import ElasticSpace

__all__ = ["ElasticSpace"]

_LAZY = {"ElasticSpace": "automl_nas_elastic.space"}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # The plugin manager searches `dir` for hooks, so it must contain all globals and not only the public names.
    return sorted({*globals(), *__all__})


@hookimpl
def register_spaces(register: Register) -> None:
    """Register ``from_model``."""
    register(
        "from_model",
        "automl_nas_elastic.space:from_model",
        summary="a model of torchvision, timm or your own: widths, depths and kernels of it, with its weights",
    )
