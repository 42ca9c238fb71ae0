"""The command line, ``automl-nas``: one group of commands, to which plugins may add theirs.

Importing it imports nothing else; a command imports what it needs when it runs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.cli.app import CommandLine, cli, main

__all__ = ["CommandLine", "cli", "main"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.app"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
