"""Plugins: hooks, the plugin manager, and the registry of components.

A plugin's top module imports `hookimpl` from here, and `Register` for annotations; that imports only pluggy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.plugin.api import Register as Register, hookimpl as hookimpl, hookspec as hookspec
    from automl_nas.plugin.component import Component as Component, Source as Source
    from automl_nas.plugin.events import (
        Event as Event,
        Handlers as Handlers,
        MessageSent as MessageSent,
        NumbersLogged as NumbersLogged,
        ProgressMade as ProgressMade,
        ResultInfo as ResultInfo,
        RunFinished as RunFinished,
        RunInfo as RunInfo,
        RunStarted as RunStarted,
        SessionEnded as SessionEnded,
        StageFinished as StageFinished,
        StageStarted as StageStarted,
        StepFinished as StepFinished,
        StepInfo as StepInfo,
        StopRequested as StopRequested,
        TrialFinished as TrialFinished,
        WarningSent as WarningSent,
    )
    from automl_nas.plugin.failures import PluginFailure as PluginFailure
    from automl_nas.plugin.kinds import KINDS as KINDS, Kind as Kind, derives as derives
    from automl_nas.plugin.manager import (
        Plugin as Plugin,
        PluginManager as PluginManager,
        default_manager as default_manager,
    )
    from automl_nas.plugin.observer import Observer as Observer
    from automl_nas.plugin.references import consent as consent, import_reference as import_reference
    from automl_nas.plugin.registry import Registry as Registry
    from automl_nas.plugin.settings import Setting as Setting, from_config as from_config
    from automl_nas.plugin.signature import (
        Collaborator as Collaborator,
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
        "Event",
        "Handlers",
        "MessageSent",
        "NumbersLogged",
        "ProgressMade",
        "ResultInfo",
        "RunFinished",
        "RunInfo",
        "RunStarted",
        "SessionEnded",
        "StageFinished",
        "StageStarted",
        "StepFinished",
        "StepInfo",
        "StopRequested",
        "TrialFinished",
        "WarningSent",
    ),
    "failures": ("PluginFailure",),
    "references": (
        "consent",
        "import_reference",
    ),
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
