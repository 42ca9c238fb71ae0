"""The command line: one click group, to which plugins may add commands.

Names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.cli.app import CommandLine as CommandLine, cli as cli
    from automl_nas.cli.common import (
        debug_option as debug_option,
        json_option as json_option,
        working_plugins as working_plugins,
    )
    from automl_nas.cli.logs import Logs as Logs, quiet_libraries as quiet_libraries
    from automl_nas.cli.overrides import Configuration as Configuration, Override as Override
    from automl_nas.cli.program import main as main
    from automl_nas.cli.space_costs import read_architecture as read_architecture
    from automl_nas.cli.text import architecture as architecture, table as table

_HOMES = {
    "app": (
        "CommandLine",
        "cli",
    ),
    "common": (
        "debug_option",
        "json_option",
        "working_plugins",
    ),
    "space_costs": ("read_architecture",),
    "logs": (
        "Logs",
        "quiet_libraries",
    ),
    "overrides": (
        "Configuration",
        "Override",
    ),
    "program": ("main",),
    "text": (
        "architecture",
        "table",
    ),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
