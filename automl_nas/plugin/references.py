"""Classes that a configuration names by a reference ``package.module:Class`` and no plugin registers.

Their import executes code. In a configuration that a user wrote, the reference is the consent. A run directory may come
from somebody else: while its configuration is resolved, nothing is imported without consent.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.plugin.output import stdout_to_stderr

PYTHON = "python:"
"""The prefix of a component that is a Python object: a resolved configuration holds ``python:module:Class``."""

# The run directory whose configuration is resolved without consent, and the references that are allowed all the same.
_untrusted: ContextVar[tuple[str, frozenset[str]] | None] = ContextVar("untrusted", default=None)


def import_reference(reference: str, *, path: str = "") -> Any:
    """Return the object that a configuration names by ``package.module:Object``.

    Plugins import such objects with this function only, since it asks for consent where a run directory names them.

    Args:
        reference: the name.
        path: the place of the name in the configuration, for the error.

    Raises:
        ConfigurationError: the configuration is of a run directory that the user did not say to trust.
        ImportError: the module cannot be imported.
        AttributeError: the module has no such object.
    """
    untrusted = _untrusted.get()
    if untrusted is not None and reference not in untrusted[1]:
        raise ConfigurationError(
            f"the configuration of the run directory {untrusted[0]} names '{reference}', which no plugin registers; to "
            "import it executes its code. If you trust the run directory: trust=True in Python, --trust on the command "
            "line",
            path=path,
        )
    module, _, names = reference.partition(":")
    with stdout_to_stderr():
        loaded: Any = importlib.import_module(module)
    for name in names.split("."):
        loaded = getattr(loaded, name)
    return loaded


@contextmanager
def consent(directory: object, *, trust: bool, allowed: frozenset[str] = frozenset()) -> Iterator[None]:
    """Resolve the configuration of a run directory with the user's consent, or import no references without it.

    Args:
        directory: the run directory, for the error.
        trust: whether the user consents to all references.
        allowed: references that the user wrote in a configuration of the same run.
    """
    token = _untrusted.set(None if trust else (str(directory), allowed))
    try:
        yield
    finally:
        _untrusted.reset(token)
