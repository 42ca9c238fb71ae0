"""How the parts of the framework find each other: hooks, the plugin manager and the registry.

A plugin's top module needs `hookimpl` and perhaps `Register` from here, and importing them imports nothing but pluggy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from automl_nas.plugin.markers import Register, hookimpl, hookspec

if TYPE_CHECKING:
    from automl_nas.plugin.component import Collaborator, Signature, from_config
    from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
    from automl_nas.plugin.faults import Fault
    from automl_nas.plugin.kinds import KINDS, Kind
    from automl_nas.plugin.located import join
    from automl_nas.plugin.manager import Plugin, PluginManager, default_manager
    from automl_nas.plugin.observer import Observer
    from automl_nas.plugin.registered import Component, Source
    from automl_nas.plugin.registry import Registry
    from automl_nas.plugin.settings import Setting

_HOMES = {
    "component": ("Collaborator", "Signature", "from_config"),
    "events": ("ResultInfo", "RunInfo", "StepInfo"),
    "kinds": ("KINDS", "Kind"),
    "located": ("join",),
    "faults": ("Fault",),
    "manager": ("Plugin", "PluginManager", "default_manager"),
    "observer": ("Observer",),
    "registered": ("Component", "Source"),
    "registry": ("Registry",),
    "settings": ("Setting",),
}
_LAZY = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}

__all__ = [
    "hookimpl",
    "hookspec",
    "PluginManager",
    "default_manager",
    "Plugin",
    "Fault",
    "Registry",
    "Register",
    "Component",
    "Source",
    "KINDS",
    "Kind",
    "Signature",
    "Setting",
    "Collaborator",
    "from_config",
    "join",
    "Observer",
    "RunInfo",
    "StepInfo",
    "ResultInfo",
]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
