"""What `SearchSpace.canonical` returns, checked for some architectures of a space."""

from __future__ import annotations

from itertools import islice

from automl_nas.errors import PluginError, SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.covering import allowed, cover_options
from automl_nas.space.space import SearchSpace

MOST = 16
"""The number of architectures for which a space is checked."""


def checked_canonical(space: SearchSpace, architecture: Architecture) -> Architecture:
    """Return the canonical architecture of an architecture.

    Args:
        space: the space.
        architecture: of the space.

    Raises:
        PluginError: what the space returns is no `Architecture`, is not of the space, or is represented by another one.
    """
    canonical: object = space.canonical(architecture)
    wrong = f"{type(space).__name__}.canonical returned for {architecture.key}"
    way_out = "it must return an Architecture of the space on every path, the one that represents all equal networks"
    if not isinstance(canonical, Architecture):
        raise PluginError(f"{wrong} {canonical!r:.300}, a {type(canonical).__name__}; {way_out}")
    try:
        space.validate(canonical)
    except SpaceError as error:
        raise PluginError(f"{wrong} {canonical.key}, which is not of the space: {error}; {way_out}") from None
    again: object = space.canonical(canonical)
    if again != canonical:
        other = again.key if isinstance(again, Architecture) else repr(again)
        raise PluginError(f"{wrong} {canonical.key}, and for that one {other}, so neither represents both; {way_out}")
    return canonical


def check_canonical(space: SearchSpace) -> None:
    """Check the canonical architectures of up to `MOST` architectures, which together have most options.

    A run that compared candidates by wrong ones would drop networks as duplicates, or evaluate equal ones again.

    Args:
        space: with decisions.

    Raises:
        PluginError: one is wrong; see `checked_canonical`.
        SpaceError: a combination of `SearchSpace.excluded` is wrong.
    """
    for architecture in islice(allowed(cover_options(space.decisions, MOST), space.exclusions), MOST):
        checked_canonical(space, space.validate(architecture))
