"""Functions of plugins that are reachable as ``automl_nas.NAME``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import PluginError
from automl_nas.plugin.component import REFERENCE, Source
from automl_nas.plugin.error_text import with_place


@dataclass(frozen=True)
class PluginFunction:
    """A function, or a class, that a plugin offers in the namespace of the core.

    Attributes:
        name: the attribute of `automl_nas`.
        reference: ``package.module:object``.
        summary: one line for listings.
        source: the plugin that registers it.
    """

    name: str
    reference: str
    summary: str
    source: Source

    def load(self) -> Any:
        """Import the object.

        Raises:
            PluginError: the import fails; the error names the plugin.
        """
        module, _, name = self.reference.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:
            raise PluginError(
                f"function '{self.name}' of {self.source}: cannot import {self.reference}: {with_place(error, module)}"
            ) from error


class FunctionStaging:
    """The `Register` that the hook ``register_functions`` receives: collects the functions of one plugin.

    Args:
        source: the plugin.
        taken: the names that are not free -> who has them.
    """

    def __init__(self, source: Source, taken: Mapping[str, object]) -> None:
        self._source, self._taken = source, dict(taken)
        self.functions: dict[str, PluginFunction] = {}

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a function; see `Register`.

        Raises:
            PluginError: the name or the reference is malformed, or the name is taken.
        """
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise PluginError(f"{name!r} is not a valid name of a function: it must be an identifier without leading _")
        if not isinstance(reference, str) or not REFERENCE.fullmatch(reference) or "." in reference.partition(":")[2]:
            raise PluginError(f"'{name}': the reference must be a string 'package.module:function', not {reference!r}")
        if not isinstance(summary, str) or "\n" in summary:
            raise PluginError(f"'{name}': the summary must be one line, a string, not {summary!r}")
        if name in self._taken:
            raise PluginError(f"the name automl_nas.{name} is taken by {self._taken[name]}")
        self._taken[name] = self._source
        self.functions[name] = PluginFunction(name, reference, summary, self._source)


def names_of_core() -> Iterable[str]:
    """Return the names that a plugin's function cannot have: the public names and the packages of `automl_nas`."""
    import pkgutil

    package = importlib.import_module("automl_nas")
    return [*package.__all__, *(module.name for module in pkgutil.iter_modules(package.__path__))]
