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
    from automl_nas.plugin.events import Event as Event
    from automl_nas.plugin.events import Handlers as Handlers
    from automl_nas.plugin.events import MessageSent as MessageSent
    from automl_nas.plugin.events import NumbersLogged as NumbersLogged
    from automl_nas.plugin.events import ProgressMade as ProgressMade
    from automl_nas.plugin.events import ResultInfo as ResultInfo
    from automl_nas.plugin.events import RunFinished as RunFinished
    from automl_nas.plugin.events import RunInfo as RunInfo
    from automl_nas.plugin.events import RunStarted as RunStarted
    from automl_nas.plugin.events import SessionEnded as SessionEnded
    from automl_nas.plugin.events import StageFinished as StageFinished
    from automl_nas.plugin.events import StageStarted as StageStarted
    from automl_nas.plugin.events import StepFinished as StepFinished
    from automl_nas.plugin.events import StepInfo as StepInfo
    from automl_nas.plugin.events import StopRequested as StopRequested
    from automl_nas.plugin.events import TrialFinished as TrialFinished
    from automl_nas.plugin.events import WarningSent as WarningSent
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
