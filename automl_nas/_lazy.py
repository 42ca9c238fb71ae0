"""Load the public names of a package when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence


def lazy_names(
    package: str, homes: Mapping[str, Sequence[str]], deprecated: Mapping[str, tuple[str, str]] | None = None
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` of a package whose names are defined in its modules.

    Args:
        package: the package's ``__name__``.
        homes: module, relative to the package -> the public names that it defines.
        deprecated: earlier name -> the name that replaces it, and the release that removes it. It works, with a
            DeprecationWarning that names the distribution that uses it.
    """
    home_of = {name: f"{package}.{module}" for module, names in homes.items() for name in names}

    def load(name: str) -> object:
        if deprecated and name in deprecated:
            replacement, release = deprecated[name]
            user = _distribution(sys._getframe(1).f_globals.get("__name__", ""))
            warnings.warn(
                f"{package}.{name}, which {user} uses, will be removed in {release}: use {replacement}",
                DeprecationWarning,
                stacklevel=2,
            )
            name = replacement
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home_of[name]), name)

    return list(home_of), load, lambda: sorted(home_of)


def _distribution(module: str) -> str:
    """Return the distribution of a module; the module if none has it."""
    from importlib.metadata import packages_distributions

    names = packages_distributions().get(module.partition(".")[0], ())
    return names[0] if names else f"the module {module}"
