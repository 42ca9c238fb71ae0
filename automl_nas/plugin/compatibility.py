"""Which plugins fit this version of the interface of plugins; the rule is in docs/reference/stability.md."""

from __future__ import annotations

import re

from automl_nas.errors import PluginError
from automl_nas.plugin.api import API_VERSION

DECLARATION = "AUTOML_NAS_API"
"""The name in the top module of a plugin: the version of the interface that it was written for."""

UNDECLARED = "1.0"
"""The version of plugins that declare none."""


def check_version(declared: object, offered: str = API_VERSION) -> str:
    """Check the version that a plugin was written for; return a warning, empty if there is nothing to warn of.

    Args:
        declared: the value of `DECLARATION` in its top module; None: it has none.
        offered: the version of this automl_nas.

    Raises:
        PluginError: the plugin does not fit, or the declaration is not a version.
    """
    text = UNDECLARED if declared is None else declared
    match = re.fullmatch(r"(\d+)\.(\d+)", text) if isinstance(text, str) else None
    if match is None:
        raise PluginError(f"{DECLARATION} is {text!r}; it must be a string such as {API_VERSION!r}")
    (major, minor), (ours, additions) = map(int, match.groups()), map(int, offered.split("."))
    if major > ours or (major == ours and minor > additions):
        raise PluginError(
            f"it needs version {text} of the interface of plugins, and this automl_nas has {offered}: upgrade "
            "automl-nas"
        )
    if major == ours:
        return ""
    if major == ours - 1 and additions == 0:
        return (
            f"it was written for version {text} of the interface of plugins, which is deprecated: automl_nas with "
            f"version {ours}.1 will refuse it; upgrade the plugin"
        )
    raise PluginError(
        f"it was written for version {text} of the interface of plugins, and this automl_nas has {offered}: upgrade "
        "the plugin, or install an older automl-nas"
    )
