"""Plugins: hooks, the plugin manager, and the registry of components.

A plugin's top module imports `hookimpl` from here, and `Register` for annotations; that imports only pluggy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.plugin.api import Register as Register
    from automl_nas.plugin.api import hookimpl as hookimpl
    from automl_nas.plugin.api import hookspec as hookspec
    from automl_nas.plugin.component import Component as Component
    from automl_nas.plugin.component import Source as Source
    from automl_nas.plugin.events import ResultInfo as ResultInfo
    from automl_nas.plugin.events import RunInfo as RunInfo
    from automl_nas.plugin.events import StepInfo as StepInfo
    from automl_nas.plugin.failures import PluginFailure as PluginFailure
    from automl_nas.plugin.kinds import KINDS as KINDS
    from automl_nas.plugin.kinds import Kind as Kind
    from automl_nas.plugin.kinds import derives as derives
    from automl_nas.plugin.manager import (
        Plugin as Plugin,
    )
    from automl_nas.plugin.manager import (
        PluginManager as PluginManager,
    )
    from automl_nas.plugin.manager import (
        default_manager as default_manager,
    )
    from automl_nas.plugin.observer import Observer as Observer
    from automl_nas.plugin.registry import Registry as Registry
    from automl_nas.plugin.settings import Setting as Setting
    from automl_nas.plugin.settings import from_config as from_config
    from automl_nas.plugin.signature import (
        Collaborator as Collaborator,
    )
    from automl_nas.plugin.signature import (
        Signature as Signature,
    )
    from automl_nas.plugin.validation_errors import join as join

_HOMES = {
    "api": (
        "Register",
        "hookimpl",
        "hookspec",
    ),
    "signature": (
        "Collaborator",
        "Signature",
    ),
    "events": (
        "ResultInfo",
        "RunInfo",
        "StepInfo",
    ),
    "failures": ("PluginFailure",),
    "kinds": (
        "KINDS",
        "Kind",
        "derives",
    ),
    "validation_errors": ("join",),
    "manager": (
        "Plugin",
        "PluginManager",
        "default_manager",
    ),
    "observer": ("Observer",),
    "component": (
        "Component",
        "Source",
    ),
    "registry": ("Registry",),
    "settings": (
        "Setting",
        "from_config",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
