"""Failures of plugins, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
