"""How the parts of the framework find each other: hooks, the plugin manager and the registry.

A plugin module needs one name from here, `hookimpl`, and importing it imports nothing but pluggy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin.markers import hookimpl, hookspec

if TYPE_CHECKING:
    pass

__all__ = ["hookimpl", "hookspec"]

_LAZY: dict[str, str] = {}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
