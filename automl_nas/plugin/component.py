"""What plugins register: a name, a reference and the source. A component is imported when it is first used."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from automl_nas.errors import PluginError
from automl_nas.plugin.error_text import with_place
from automl_nas.plugin.import_effects import noticing
from automl_nas.plugin.kinds import KINDS, Kind, derives, produced_class

if TYPE_CHECKING:
    from automl_nas.plugin.signature import Signature

NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")
"""The names of components."""

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""References to objects of modules."""


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from.

    Attributes:
        plugin: the plugin's name, which is the name of its entry point.
        module: the module (or ``module:object``) that implements its hooks.
        distribution: the distribution that installed it; empty for a module registered in Python.
        version: the version of the distribution.
    """

    plugin: str
    module: str
    distribution: str = ""
    version: str = ""

    def __str__(self) -> str:
        where = f"distribution '{self.distribution}' {self.version}" if self.distribution else f"module {self.module}"
        return f"plugin '{self.plugin}' ({where.rstrip()})"


@dataclass(frozen=True)
class Component:
    """Something registered under a name.

    Attributes:
        kind: one of `KINDS`.
        name: what users write in a configuration.
        reference: ``package.module:Object``.
        summary: one line for listings.
        source: the plugin that registers it.
    """

    kind: str
    name: str
    reference: str
    summary: str
    source: Source

    @property
    def plugin(self) -> str:
        """The name of the plugin."""
        return self.source.plugin

    @property
    def distribution(self) -> str:
        """The name of the distribution; empty for a module registered in Python."""
        return self.source.distribution

    @property
    def version(self) -> str:
        """The version of the distribution."""
        return self.source.version

    def __str__(self) -> str:
        return f"{KINDS[self.kind].noun} '{self.name}' of {self.source}"

    def load(self) -> Callable[..., Any]:
        """Import the object.

        Raises:
            PluginError: the import fails, or the object does not fit its kind; the error names the plugin and the
                distribution.
        """
        module, _, path = self.reference.partition(":")
        try:
            imported = module in sys.modules
            with contextlib.nullcontext() if imported else noticing(self._warn, library=True):
                loaded: Any = importlib.import_module(module)
            for part in path.split("."):
                loaded = getattr(loaded, part)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(*error.args or (f"{self} was being imported",)) from error
        except BaseException as error:
            raise self.broken(f"cannot import {self.reference}: {with_place(error, module)}") from error
        if reason := unfit(loaded, KINDS[self.kind]):
            raise self.broken(f"{self.reference} {reason}")
        result: Callable[..., Any] = loaded
        return result

    def is_loaded_as(self, loaded: object) -> bool:
        """Whether an object is this component's, without importing anything."""
        module, _, path = self.reference.partition(":")
        target: object = sys.modules.get(module)
        for part in path.split("."):
            target = getattr(target, part, None)
        return target is loaded

    def signature(self) -> Signature:
        """Return the collaborators and settings of the component's constructor.

        Raises:
            PluginError: the component cannot be imported, or its constructor's signature is invalid.
        """
        from automl_nas.plugin.signature import Signature  # discovery of plugins does not need it

        loaded = self.load()
        # Other callables may not be hashable.
        by_name = _signatures.setdefault(loaded, {}) if isinstance(loaded, type | FunctionType) else {}
        try:
            if self.name not in by_name:
                by_name[self.name] = Signature.of(loaded, name=self.name)
            return by_name[self.name]
        except PluginError as error:
            raise error if str(error).startswith(str(self)) else self.broken(str(error)) from error

    def _warn(self, remark: str) -> None:
        _log.warning("%s: %s", self, remark)

    def broken(self, reason: str) -> PluginError:
        """Return an error that names this component and the reason."""
        return PluginError(f"{self}: {reason}")


_log = logging.getLogger(__name__)

# Reading a signature and building its schema takes milliseconds, and a run needs each signature several times.
_signatures: WeakKeyDictionary[Callable[..., Any], dict[str, Signature]] = WeakKeyDictionary()


def unfit(loaded: object, kind: Kind) -> str:
    """Return why an object cannot be a component of a kind; empty if it can."""
    if not isinstance(loaded, type):
        produced = produced_class(loaded)
        if produced is None:
            return f"must be a class, or a function with a return annotation, not {loaded!r}"
        return "" if derives(produced, kind.base) else f"returns {produced.__name__}, which is not a {kind.base_name}"
    if not derives(loaded, kind.base):
        return f"does not derive from {kind.base_name}"
    if inspect.isabstract(loaded):
        return f"is abstract: it does not implement {', '.join(sorted(getattr(loaded, '__abstractmethods__', ())))}"
    return ""


class Staging:
    """The `Register` that a registration hook receives: collects the components of one plugin and kind."""

    def __init__(self, kind: str, source: Source) -> None:
        self._kind, self._source = kind, source
        self.components: list[Component] = []

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a component; see `Register`.

        Raises:
            PluginError: the name or the reference is malformed.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise PluginError(
                f"{name!r} is not a valid name: use lower case letters, digits, '_' and '-', starting with a letter"
            )
        if not isinstance(reference, str) or not REFERENCE.fullmatch(reference):
            raise PluginError(f"'{name}': the reference must be a string 'package.module:Object', not {reference!r}")
        if not isinstance(summary, str) or "\n" in summary:
            raise PluginError(f"'{name}': the summary must be one line, a string, not {summary!r}")
        self.components.append(Component(self._kind, name, reference, summary, self._source))
