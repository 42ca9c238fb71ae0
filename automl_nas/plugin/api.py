"""What the top module of a plugin imports: `hookimpl`, and `Register`, the type that registration hooks receive."""

from __future__ import annotations

from typing import Protocol

import pluggy

PROJECT = "automl_nas"
"""The name of the pluggy project and of the entry point group."""

API_VERSION = "1.0"
"""The version of the interface of plugins; see docs/reference/stability.md for what a plugin may declare."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook of the same name."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks a function as the specification of a hook; only the core uses it."""


class Register(Protocol):
    """The argument of a registration hook: a function that registers one component."""

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a component.

        Args:
            name: what users write in a configuration: lower case letters, digits, ``_`` and ``-``.
            reference: ``package.module:Object``. It is imported when a configuration names the component.
            summary: one line for listings.
        """
