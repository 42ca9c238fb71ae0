"""Failures of plugins, as data."""

from __future__ import annotations

from dataclasses import dataclass

from automl_nas.errors import PluginError
from automl_nas.plugin.component import Component, Source


@dataclass(frozen=True)
class PluginFailure:
    """A failure of a plugin or of one of its components.

    Attributes:
        source: the plugin.
        error: the reason, in one line.
        cause: the exception, for its traceback; None if there was no exception.
        component: the component that failed; None if the plugin itself failed.
    """

    source: Source
    error: str
    cause: BaseException | None = None
    component: Component | None = None

    def __str__(self) -> str:
        return self.error if self.component else f"{self.source}: {self.error}"


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type and its message; for a `PluginError` the message alone."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
