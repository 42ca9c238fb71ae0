"""What plugins register: a name, a reference, and where it comes from. Nothing is imported until it is asked for."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from automl_nas.errors import PluginError
from automl_nas.plugin.kinds import KINDS, Kind, derives, produced_class

if TYPE_CHECKING:
    from automl_nas.plugin.signature import Signature

_NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")
_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from.

    Attributes:
        plugin: its name, that of the entry point.
        module: the module (or ``module:object``) that holds its hooks.
        distribution: the distribution that installed it; empty for a module given in Python.
        version: of the distribution.
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
        name: what users write.
        reference: ``package.module:Object``.
        summary: one line.
        source: the plugin it comes from.
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
        """The name of the distribution; empty for a module given in Python."""
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
            PluginError: the import fails, or the object is not what its kind asks for; names plugin and distribution.
        """
        module, _, path = self.reference.partition(":")
        try:
            loaded: Any = importlib.import_module(module)
            for part in path.split("."):
                loaded = getattr(loaded, part)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise self.broken(f"cannot import {self.reference}: {type(error).__name__}: {error}") from error
        if reason := _unfit(loaded, KINDS[self.kind]):
            raise self.broken(f"{self.reference} {reason}")
        result: Callable[..., Any] = loaded
        return result

    def signature(self) -> Signature:
        """Return its collaborators and settings.

        Raises:
            PluginError: it cannot be imported, or its constructor is no configuration schema.
        """
        from automl_nas.plugin.signature import Signature

        loaded = self.load()
        # Other callables may not be hashable.
        known = _signatures.setdefault(loaded, {}) if isinstance(loaded, type | FunctionType) else {}
        try:
            if self.name not in known:
                known[self.name] = Signature.of(loaded, name=self.name)
            return known[self.name]
        except PluginError as error:
            raise error if str(error).startswith(str(self)) else self.broken(str(error)) from error

    def broken(self, reason: str) -> PluginError:
        """Return the error that says what is wrong with this component."""
        return PluginError(f"{self}: {reason}")


# Reading a signature and making its schema takes milliseconds, and a run asks several times.
_signatures: WeakKeyDictionary[Callable[..., Any], dict[str, Signature]] = WeakKeyDictionary()


def _unfit(loaded: object, kind: Kind) -> str:
    if not isinstance(loaded, type):
        made = produced_class(loaded)
        if made is None:
            return f"is neither a class nor a function with a return annotation, but {loaded!r}"
        return "" if derives(made, kind.base) else f"returns {made.__name__}, which is no {kind.base_name}"
    if not derives(loaded, kind.base):
        return f"does not derive from {kind.base_name}"
    if inspect.isabstract(loaded):
        return f"is abstract: it lacks {', '.join(sorted(getattr(loaded, '__abstractmethods__', ())))}"
    return ""


class Staging:
    """Collects what one plugin registers under one kind: the `Register` that its hook is given."""

    def __init__(self, kind: str, source: Source) -> None:
        self._kind, self._source = kind, source
        self.components: list[Component] = []

    def __call__(self, name: str, reference: str, *, summary: str = "") -> None:
        """Register a component; see `Register`.

        Raises:
            PluginError: the name or the reference is malformed.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"{name!r} is no name: lower case letters, digits, '_' and '-', starting with a letter")
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise PluginError(f"'{name}': the reference must be a text 'package.module:Object', not {reference!r}")
        if not isinstance(summary, str) or "\n" in summary:
            raise PluginError(f"'{name}': the summary must be one line of text, not {summary!r}")
        self.components.append(Component(self._kind, name, reference, summary, self._source))
