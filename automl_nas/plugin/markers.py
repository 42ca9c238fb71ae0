"""The two markers of the plugin system."""

from __future__ import annotations

import pluggy

PROJECT = "automl_nas"
"""The name of the pluggy project and of the entry point group."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook of the same name."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks the specification of a hook; for the core only."""
