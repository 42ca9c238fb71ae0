"""What the top module of a plugin needs: the marker of its hooks, and the type of what registration hooks are given."""

from __future__ import annotations

from typing import Protocol

import pluggy

PROJECT = "automl_nas"
"""The name of the pluggy project and of the entry point group."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin module as the implementation of the hook of the same name."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""Marks the specification of a hook; for the core only."""


class Register(Protocol):
    """What a registration hook is given."""

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a component.

        Args:
            name: what users write in a configuration: lower case letters, digits, ``_`` and ``-``.
            reference: ``package.module:Object``. It is imported when a configuration names it, not before.
            summary: one line for listings.
        """
