"""automl_nas: plugin-based neural architecture search for PyTorch.

Importing this package imports neither torch nor any plugin; names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.run.api import open_run, resume, search
    from automl_nas.run.results import Result
    from automl_nas.space.architecture import Architecture
    from automl_nas.space.choice import OneOf
    from automl_nas.space.module_space import ModuleSpace

__version__ = "0.1.0"

__all__ = ["Architecture", "ModuleSpace", "OneOf", "Result", "open_run", "resume", "search"]

_LAZY = {
    "resume": "automl_nas.run.api",
    "open_run": "automl_nas.run.api",
    "Result": "automl_nas.run.results",
    "Architecture": "automl_nas.space.architecture",
    "ModuleSpace": "automl_nas.space.module_space",
    "OneOf": "automl_nas.space.choice",
}


def __getattr__(name: str) -> object:
    if name == "search":
        # The package of that name, which can be called: importing any part of it binds it here in any case.
        return importlib.import_module("automl_nas.search")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
